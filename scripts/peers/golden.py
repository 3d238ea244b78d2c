"""Writes the golden files that the tests of the nn room compare with, from PyTorch.

  golden.py OUT     (OUT is tests/data; needs PyTorch and NumPy)

models.txt        every model's state dict: names and shapes
golden_step.json  one training step of some models on weights and images from a formula: loss and gradient in float64,
                  and how far PyTorch's own float32 gradients are from it in its two layouts
golden_optim.json weights after 1..6 steps of SGD, Adam and AdamW in many settings
golden_schedule.json learning rates (and momenta) of PyTorch's schedulers
"""
import json, math, os, sys
import numpy as np, torch, torch.nn.functional as F
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import models


def noise(n, salt):
    """n numbers in [0,1), the same in tests/formula.h: an integer hash of (place, salt)."""
    x = np.arange(n, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(salt * 2246822519 % 2**32)
    for shift, factor in ((15, 2246822519), (13, 3266489917)):
        x ^= x >> np.uint32(shift)
        x *= np.uint32(factor)
    x ^= x >> np.uint32(16)
    return x


def unit(shape, salt):
    return torch.from_numpy(noise(math.prod(shape), salt).astype(np.float64) / 2**32).reshape(shape)


def formula(model, salt):
    """Fills every tensor of a model: weights U(±sqrt(6/fan_in)), norms about 1, small shifts."""
    for i, (name, t) in enumerate(model.state_dict().items()):
        if not t.is_floating_point():
            continue
        u = unit(t.shape, salt + i)
        if t.dim() >= 2:
            v = (2 * u - 1) * math.sqrt(6 / t[0].numel())
        elif name.endswith('running_var') or name.endswith('weight'):
            v = .5 + u
        else:
            v = .4 * (u - .5)
        t.copy_(v.float())


def batch(name, n, salt):
    shape = (n, *models.INPUT[name.removesuffix('-smooth')][1:])
    return ((2 * unit(shape, salt) - 1) * 1.7).float(), torch.from_numpy(noise(n, salt + 1).astype(np.int64) % 10)


def loss_and_gradient(model, images, labels, dtype, layout):
    model = model.to(dtype).to(memory_format=layout).train()
    for m in model.modules():
        if isinstance(m, torch.nn.modules.dropout._DropoutNd):
            m.p = 0
    for p in model.parameters():
        p.grad = None
    y = model(images.to(dtype).to(memory_format=layout))
    loss = F.nll_loss(y, labels) if type(model).__name__ in ('LeNet', 'Naive') else F.cross_entropy(y, labels)
    loss.backward()
    return loss.item(), [p.grad.detach().double().contiguous().flatten() for p in model.parameters()]


def projections(gradient, salt):
    """32 sums of the gradient's numbers under signs that the bits of noise() give: they tell distances apart."""
    sums = np.zeros(32)
    for i, g in enumerate(gradient):
        bits, g = noise(g.numel(), salt + i), g.numpy()
        for k in range(32):
            sums[k] += np.where(bits >> np.uint32(k) & np.uint32(1), g, -g).sum()
    return sums.tolist()


def steps():
    cases = []
    for name, n in (('lenet', 4), ('naive', 4), ('vgg19', 4), ('resnet20', 8), ('resnet20-smooth', 8), ('mobilenetv2', 4)):
        def fresh():
            model = models.make(name)
            formula(model, 1000)
            return model
        images, labels = batch(name, n, 7)
        loss, exact = loss_and_gradient(fresh(), images, labels, torch.float64, torch.contiguous_format)
        norm = math.sqrt(sum((g * g).sum().item() for g in exact))
        case = {'model': name, 'batch': n, 'loss': loss, 'gradient_norm': norm,
                'norms': {k: g.norm().item() for (k, _), g in zip(fresh().named_parameters(), exact)},
                'projections': projections(exact, 50000), 'pytorch': {}}
        for layout in (torch.contiguous_format, torch.channels_last):
            l, g = loss_and_gradient(fresh(), images, labels, torch.float32, layout)
            distance = math.sqrt(sum(((a - b)**2).sum().item() for a, b in zip(g, exact))) / norm
            case['pytorch'][str(layout).split('.')[1]] = {'loss': l, 'distance': distance}
        print(name, loss, case['pytorch'])
        cases.append(case)
    return cases


def optimisers():
    cases = []
    def add(kind, **options):
        p = torch.nn.Parameter((2 * unit((37,), 3) - 1).float().double())
        o = getattr(torch.optim, kind)([p], **options)
        values = []
        for t in range(6):
            p.grad = (2 * unit((37,), 100 + t) - 1).float().double()
            o.step()
            values.append(p.detach().tolist())
        cases.append({'type': kind, 'options': options, 'values': values})
    add('SGD', lr=.1)
    add('SGD', lr=.1, weight_decay=.01)
    add('SGD', lr=.1, momentum=.9)
    add('SGD', lr=.1, momentum=.9, weight_decay=1e-2)
    add('SGD', lr=.1, momentum=.8, dampening=.3)
    add('SGD', lr=.1, momentum=.9, weight_decay=1e-2, nesterov=True)
    for kind in ('Adam', 'AdamW'):
        add(kind, lr=.01, weight_decay=0.)
        add(kind, lr=.01, weight_decay=.1)
        add(kind, lr=.01, betas=(.8, .95), eps=1e-3, weight_decay=.05)
    return cases


def schedules():
    S, cases = torch.optim.lr_scheduler, []
    def add(text, make, length, lr=.1):
        o = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=.9)
        s = make(o)
        values = []
        for _ in range(length):
            values.append([o.param_groups[0]['lr'], o.param_groups[0]['momentum']])
            o.step()
            s.step()
        cases.append({'schedule': text, 'values': values})
    add('step:3:0.5', lambda o: S.StepLR(o, 3, .5), 12)
    add('multistep:2,5,9:0.2', lambda o: S.MultiStepLR(o, [2, 5, 9], .2), 12)
    add('cosine', lambda o: S.CosineAnnealingLR(o, 12), 12)
    add('cosine:0.01', lambda o: S.CosineAnnealingLR(o, 12, .01), 12)
    add('onecycle:0.4', lambda o: S.OneCycleLR(o, .4, total_steps=24), 23)
    add('warmup:4+cosine', lambda o: S.SequentialLR(o, [S.LinearLR(o, 1 / 3, total_iters=4), S.CosineAnnealingLR(o, 8)], [4]), 12)
    add('warmup:3+step:2:0.5', lambda o: S.SequentialLR(o, [S.LinearLR(o, 1 / 3, total_iters=3), S.StepLR(o, 2, .5)], [3]), 12)
    return cases


def main(out):
    with open(f'{out}/models.txt', 'w') as f:
        for name, make in models.MODELS.items():
            f.write(f'model {name}\n')
            for key, t in make().state_dict().items():
                f.write(' '.join([key, *map(str, t.shape)]) + '\n')
    for name, value in (('optim', optimisers()), ('schedule', schedules()), ('step', steps())):
        with open(f'{out}/golden_{name}.json', 'w') as f:
            json.dump({'pytorch': torch.__version__, 'cases': value}, f)
            f.write('\n')


if __name__ == '__main__':
    main(sys.argv[1])
