"""The bundled networks in PyTorch: the same parameter names and the same order of creation as nn/models/*.cpp.

smooth=True gives the twins that are compared step by step: SiLU and average pooling in the place of ReLU and max pooling.
"""
import math, torch.nn as nn, torch.nn.functional as F

VGG_CFG = {11: [64, 'M', 128, 'M', 256, 256, 'M', 512, 512, 'M', 512, 512],
           13: [64, 64, 'M', 128, 128, 'M', 256, 256, 'M', 512, 512, 'M', 512, 512],
           16: [64, 64, 'M', 128, 128, 'M', 256, 256, 256, 'M', 512, 512, 512, 'M', 512, 512, 512],
           19: [64, 64, 'M', 128, 128, 'M', 256, 256, 256, 256, 'M', 512, 512, 512, 512, 'M', 512, 512, 512, 512]}


class VGG(nn.Module):
    """Input N,3,32,32. Four poolings, then an average pool of 2: 512 features, Linear-BN1d-ReLU-Linear."""
    def __init__(self, depth=16, cfg=None, smooth=False):
        super().__init__()
        layers, channels = [], 3
        act = (lambda: nn.SiLU()) if smooth else (lambda: nn.ReLU(inplace=True))
        for v in cfg or VGG_CFG[depth]:
            if v == 'M':
                layers.append(nn.AvgPool2d(2, 2) if smooth else nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(channels, v, 3, padding=1, bias=False), nn.BatchNorm2d(v), act()]
                channels = v
        self.feature = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(channels, 512), nn.BatchNorm1d(512), act(), nn.Linear(512, 10))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                m.weight.data.normal_(0, math.sqrt(2. / (9 * m.out_channels)))
            elif isinstance(m, nn.BatchNorm2d):
                m.weight.data.fill_(.5); m.bias.data.zero_()
            elif isinstance(m, nn.Linear):
                m.weight.data.normal_(0, .01); m.bias.data.zero_()

    def forward(self, x):
        return self.classifier(F.avg_pool2d(self.feature(x), 2).flatten(1))


class LeNet(nn.Module):
    """NNI's MNIST LeNet. Input N,1,28,28; returns log-probabilities."""
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
        self.dropout1, self.dropout2 = nn.Dropout2d(.25), nn.Dropout(.5)
        self.fc1, self.fc2 = nn.Linear(9216, 128), nn.Linear(128, 10)

    def forward(self, x):
        x = self.dropout1(F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 2)).flatten(1)
        return F.log_softmax(self.fc2(self.dropout2(F.relu(self.fc1(x)))), 1)


class Naive(nn.Module):
    """NNI's "naive" MNIST net. Input N,1,28,28."""
    def __init__(self, smooth=False):
        super().__init__()
        self.act, self.pool = (F.silu, F.avg_pool2d) if smooth else (F.relu, F.max_pool2d)
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.bn1, self.bn2 = nn.BatchNorm2d(20), nn.BatchNorm2d(50)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, 10)

    def forward(self, x):
        x = self.pool(self.act(self.bn1(self.conv1(x))), 2)
        x = self.pool(self.act(self.bn2(self.conv2(x))), 2).flatten(1)
        return F.log_softmax(self.fc2(self.act(self.fc1(x))), 1)


class BasicBlock(nn.Module):
    def __init__(self, inp, out, stride, smooth=False):
        super().__init__()
        self.act = F.silu if smooth else F.relu
        self.conv1, self.bn1 = nn.Conv2d(inp, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample = nn.Sequential(nn.Conv2d(inp, out, 1, stride, bias=False), nn.BatchNorm2d(out)) if stride != 1 or inp != out else None

    def forward(self, x):
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        return self.act(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """CIFAR ResNets, projection shortcuts: 20 and 56 (16-32-64 wide), 18 (64-128-256-512 wide, 3x3 stem)."""
    def __init__(self, widths, blocks, smooth=False):
        super().__init__()
        self.act = F.silu if smooth else F.relu
        self.conv1, self.bn1, inp = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), widths[0]
        for i, w in enumerate(widths):
            layer = []
            for k in range(blocks): layer.append(BasicBlock(inp, w, 2 if i and not k else 1, smooth)); inp = w
            setattr(self, f'layer{i + 1}', nn.Sequential(*layer))
        self.layers, self.fc = len(widths), nn.Linear(inp, 10)

    def forward(self, x):
        x = self.act(self.bn1(self.conv1(x)))
        for i in range(self.layers): x = getattr(self, f'layer{i + 1}')(x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class InvertedResidual(nn.Module):
    def __init__(self, inp, out, stride, expand):
        super().__init__()
        hidden, layers = inp * expand, []
        if expand != 1: layers.append(conv_bn_relu6(inp, hidden, 1))
        layers += [conv_bn_relu6(hidden, hidden, 3, stride, hidden), nn.Conv2d(hidden, out, 1, bias=False), nn.BatchNorm2d(out)]
        self.conv, self.residual = nn.Sequential(*layers), stride == 1 and inp == out

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


def conv_bn_relu6(inp, out, kernel, stride=1, groups=1):
    return nn.Sequential(nn.Conv2d(inp, out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(out), nn.ReLU6())


class MobileNetV2(nn.Module):
    """torchvision's names; strides for 32x32 images: stem 1, second stage 1."""
    def __init__(self):
        super().__init__()
        features, inp = [conv_bn_relu6(3, 32, 3)], 32
        for expand, out, n, stride in ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
            for k in range(n): features.append(InvertedResidual(inp, out, 1 if k else stride, expand)); inp = out
        self.features = nn.Sequential(*features, conv_bn_relu6(320, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(.2), nn.Linear(1280, 10))

    def forward(self, x):
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


RESNETS = {'resnet18': ((64, 128, 256, 512), 2), 'resnet20': ((16, 32, 64), 3), 'resnet56': ((16, 32, 64), 9)}
MODELS = {'lenet': LeNet, 'naive': Naive, **{f'vgg{d}': (lambda d=d, **o: VGG(d, **o)) for d in VGG_CFG},
          **{n: (lambda a=a, **o: ResNet(*a, **o)) for n, a in RESNETS.items()}, 'mobilenetv2': MobileNetV2}
INPUT = {name: (1, 1, 28, 28) if name in ('lenet', 'naive') else (1, 3, 32, 32) for name in MODELS}


def make(name):
    """The model of that name; "vgg19-smooth" is the twin."""
    base = name.removesuffix('-smooth')
    return MODELS[base](smooth=True) if name != base else MODELS[base]()
