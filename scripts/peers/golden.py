"""Writes the golden files that the tests of the nn room compare with, from PyTorch.

  golden.py OUT     (OUT is tests/data; needs PyTorch and NumPy)

models.txt        every model's state dict: names and shapes
golden_step.json  one training step of some models on weights and images from a formula: loss and gradient in float64,
                  and how far PyTorch's own float32 gradients are from it in its two layouts
golden_optim.json weights after 1..6 steps of SGD, RMSprop, Adam and AdamW in many settings
golden_training.json clipped gradients, averages of weights, rates on a plateau
golden_schedule.json learning rates (and momenta) of PyTorch's schedulers
golden_not_finite.json what ops make of NaN and infinities: values and gradients
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
    add('RMSprop', lr=.01)
    add('RMSprop', lr=.01, alpha=.9, eps=1e-3, weight_decay=.05)
    add('RMSprop', lr=.01, momentum=.8)
    add('RMSprop', lr=.01, momentum=.9, centered=True, weight_decay=.01)
    for kind in ('Adam', 'AdamW'):
        add(kind, lr=.01, weight_decay=0.)
        add(kind, lr=.01, weight_decay=.1)
        add(kind, lr=.01, betas=(.8, .95), eps=1e-3, weight_decay=.05)
    return cases


def training():
    """Clipped gradients, running averages of weights, and rates on a plateau."""
    cases = []
    for bound in (.5, 3., 100., 0.):
        p = torch.nn.Parameter(torch.zeros(37))
        p.grad = (2 * unit((37,), 100) - 1).float()
        norm = torch.nn.utils.clip_grad_norm_([p], bound).item()
        case = {'kind': 'clip', 'bound': bound, 'norm': norm, 'by_norm': p.grad.tolist()}
        p.grad = (2 * unit((37,), 100) - 1).float()
        torch.nn.utils.clip_grad_value_([p], bound)
        cases.append(case | {'by_value': p.grad.tolist()})
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
    for decay in (0., .5, .99):
        module = torch.nn.Module()
        module.weight = torch.nn.Parameter(torch.zeros(37))
        averaged, values = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay)), []
        for t in range(5):
            module.weight.data = (2 * unit((37,), 100 + t) - 1).float()
            averaged.update_parameters(module)
            values.append(averaged.module.weight.tolist())
        cases.append({'kind': 'ema', 'decay': decay, 'values': values})
    metrics = [5., 4., 4.1, 3.9999, 4.2, 4., 3., 3.5, 3.2, 3.1, 3.05, 3.01, 2.9999, 3., 3., 3., 3., 3., 2., 2., 2.]
    for o in ({'factor': .1, 'patience': 2}, {'factor': .5, 'patience': 0, 'cooldown': 2}, {'factor': .2, 'patience': 1, 'min_lr': .01},
              {'factor': .5, 'patience': 1, 'threshold': .5, 'threshold_mode': 'abs'}, {'factor': .5, 'patience': 1, 'mode': 'max'}):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=.1)
        schedule, rates = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **o), []
        for m in metrics:
            schedule.step(m)
            rates.append(optimizer.param_groups[0]['lr'])
        cases.append({'kind': 'plateau', 'options': o, 'metrics': metrics, 'rates': rates})
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


def number(v):
    return float(f'{v:.7g}') if math.isfinite(v) else str(v)


def array(t):
    return {'shape': list(t.shape), 'values': [number(v) for v in t.detach().flatten().tolist()]}


def not_finite():
    nan, inf = math.nan, math.inf
    cases = []
    def add(op, f, operands, dy=None, fixed=(), after=(), **options):
        """f(*operands) and its gradients under dy (one number or a list); `fixed` operands get none, and those in
        `after` are written in place."""
        t = [torch.tensor(v, dtype=torch.float32) if not torch.is_tensor(v) else v.clone() for v in operands]
        case = {'op': op, 'options': options, 'operands': [array(v) for v in t]}
        for i, v in enumerate(t):
            v.requires_grad_(i not in fixed)
        y = f(*t)
        dy = torch.ones_like(y) if dy is None else torch.full_like(y, dy) if isinstance(dy, float) else torch.tensor(dy).view_as(y)
        if y.requires_grad:
            y.backward(dy)
        case |= {'dy': array(dy), 'y': array(y), 'grads': [array(v.grad) if v.grad is not None else None for v in t],
                 'after': {str(i): array(t[i]) for i in after}}
        cases.append(case)

    def one_by_one(f):
        """PyTorch's vectorised loops treat NaN unlike its scalar ones in some gradients; the scalar ones are its formulas."""
        return lambda x: torch.cat([f(v) for v in x.split(1)])

    line = [nan, inf, -inf, 0., -3., 3., 6., -1., 1., -2., 2.5, -40., 40.]
    for op, f, options in (('relu', F.relu, {}), ('relu6', F.relu6, {}),
                           ('leaky_relu', lambda x: F.leaky_relu(x, .25), {'negative_slope': .25}),
                           ('hardtanh', lambda x: F.hardtanh(x, -2, 3), {'min_val': -2, 'max_val': 3}),
                           ('tanh', torch.tanh, {}), ('sigmoid', torch.sigmoid, {}), ('silu', F.silu, {}),
                           ('hardswish', F.hardswish, {}), ('gelu', F.gelu, {}),
                           ('neg', torch.neg, {}), ('abs', torch.abs, {}), ('exp', torch.exp, {}), ('log', torch.log, {}),
                           ('sqrt', torch.sqrt, {}), ('clamp', lambda x: torch.clamp(x, -2, 3), {'min': -2, 'max': 3}),
                           ('clamp', lambda x: torch.clamp(x, 3, -2), {'min': 3, 'max': -2}),
                           ('smooth_l1', lambda x: F.smooth_l1_loss(x, torch.zeros_like(x), reduction='none', beta=2.), {'beta': 2}),
                           *(('pow', lambda x, e=e: torch.pow(x, e), {'exponent': e}) for e in (-2., -1., -.5, 0., .5, 1., 2., 2.5, 3., 4.))):
        add(op, one_by_one(f), [line * 4], [g for g in (1., nan, inf, -inf) for _ in line], **options)

    add('sign', torch.sign, [line[1:] * 2], [g for g in (1., nan) for _ in line[1:]])  # its sign of NaN is 0, ours NaN

    few = [nan, inf, -inf, 0., 1., -2.]
    a, b = [x for x in few for _ in few], few * len(few)
    for op, f in (('add', torch.add), ('sub', torch.sub), ('mul', torch.mul), ('div', torch.div),
                  ('maximum', torch.maximum), ('minimum', torch.minimum),
                  ('prelu_term', lambda x, w: F.prelu(x.view(1, -1), w)[0])):
        for dy in (1., nan, inf):
            add(op, f, [a, b], dy)
    for dy in (1., nan, inf):
        add('kl_term', lambda p, t: F.kl_div(p, t, reduction='none'), [a, b], dy, fixed=(1,))

    for op in ('gt', 'ge', 'lt', 'le', 'eq', 'ne'):
        add(op, lambda p, t: getattr(torch, op)(p, t).float(), [a, b])
    for dy in (1., nan, inf):
        add('bce_logits_term', lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction='none'), [a, b], dy, fixed=(1,))
        sure = [0., 1., .25, 1e-30] * 5
        add('bce_term', lambda x, t: F.binary_cross_entropy(x, t, reduction='none'),
            [sure, [v for v in (0., 1., .5, .75, 1e-3) for _ in range(4)]], dy, fixed=(1,))
        add('where', lambda c, p, t: torch.where(c != 0, p, t), [[nan, 0., 1., inf, 0., -1.] * 6, a, b], dy, fixed=(0,))

    wild = torch.tensor([[nan, 1, 2, .5], [inf, 1, 2, .5], [-inf, 1, 2, .5], [inf, inf, 1, 0], [-inf] * 4,
                         [inf, -inf, 1, 0], [1, nan, 2, nan], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]])
    dwild = torch.tensor([[1., 2, 3, -1]] * 7 + [[nan, 1, 1, 0], [inf, 1, 1, 0], [1, -inf, inf, 0]])
    for dim in (1, 0):
        for op, f in (('softmax', F.softmax), ('log_softmax', F.log_softmax)):
            x, g = (wild, dwild) if dim == 1 else (wild.T, dwild.T)
            add(op, lambda x: f(x, dim), [x.contiguous()], g.contiguous().tolist(), dim=dim)
    for op, f in (('sum', torch.sum), ('mean', torch.mean), ('amax', torch.amax), ('amin', torch.amin)):
        for dims in ([0], [1], [0, 1]):
            add(op, lambda x: f(x, dims), [wild], dims=dims)
        add(op, lambda x: f(x, [1]), [wild], [nan, inf, -inf] + [1.] * 7, dims=[1])

    labels = [1, 0, 2, 3, 0, 1, 2, 1, 2, 3]
    for row in range(len(labels)):
        for smoothing in (0., .1):
            add('cross_entropy', lambda x: F.cross_entropy(x, torch.tensor(labels[row:row + 1]), label_smoothing=smoothing),
                [wild[row:row + 1]], target=labels[row:row + 1], smoothing=smoothing)
        add('nll_loss', lambda x: F.nll_loss(x, torch.tensor(labels[row:row + 1])), [wild[row:row + 1]],
            target=labels[row:row + 1], smoothing=0.)
        add('weighted_cross_entropy', lambda x: F.cross_entropy(x, torch.tensor(labels[row:row + 1] + [1]), torch.tensor([.5, 2, 1, 3]), label_smoothing=.1),
            [wild[[row, 7]]], target=labels[row:row + 1] + [1], smoothing=.1, weight=[.5, 2, 1, 3])
        for op, f in (('l1_loss', F.l1_loss), ('smooth_l1_loss', F.smooth_l1_loss)):
            add(op, f, [wild[row], [1., 1, 0, inf]], fixed=(1,))
        add('mse_loss', F.mse_loss, [wild[row], [1., 1, 0, inf]], fixed=(1,))
        add('kl_div', lambda p, t: F.kl_div(p, t, reduction='batchmean'), [wild[row:row + 1], [[.5, .5, 0, 0]]], fixed=(1,))
    for dy in (nan, inf):
        add('nll_loss', lambda x: F.nll_loss(x, torch.tensor(labels)), [torch.zeros(10, 4)], dy, target=labels, smoothing=0.)

    def spoilt(shape, salt, *places):
        t = ((32 * unit(shape, salt)).round() / 16 - 1).float().flatten()  # short in the file
        for place, value in places:
            t[place] = value
        return t.reshape(shape)

    for window, x_shape, w_shape in (({}, (1, 2, 3, 5), (17, 2, 1, 1)), ({'stride': 2}, (1, 2, 5, 4), (3, 2, 3, 2)),
                                     ({'padding': 1}, (1, 2, 4, 4), (3, 2, 3, 3)),
                                     ({'padding': 1, 'groups': 2}, (1, 4, 3, 3), (4, 2, 3, 3)),
                                     ({'padding': 1, 'groups': 8}, (1, 8, 3, 3), (8, 1, 3, 3))):
        conv = lambda x, w, b: F.conv2d(x, w, b, **window)
        out = conv(torch.zeros(x_shape), torch.zeros(w_shape), None).shape
        for value in (nan, inf):
            x, w, b = spoilt(x_shape, 1), spoilt(w_shape, 2), spoilt(w_shape[:1], 3)
            dy = spoilt(out, 4)
            add('conv2d', conv, [spoilt(x_shape, 1, (7, value)), w, b], dy.tolist(), **window)
            if not window:  # elsewhere implementations differ in whether they multiply the zeros between and around
                add('conv2d', conv, [x, w, b], spoilt(out, 4, (5, value)).tolist(), **window)
                add('conv2d', conv, [x, spoilt(w_shape, 2, (4, value)), spoilt(w_shape[:1], 3, (2, value))], dy.tolist(), **window)
    for value in (nan, inf):
        n, i, o = 7, 3, 17
        for k in range(4):
            x, w, b = (spoilt(s, j, *[(j + 1, value)] * (j == k)) for j, s in enumerate(((n, i), (o, i), (o,))))
            dy = spoilt((n, o), 3, *[(5, value)] * (k == 3)).tolist()
            add('linear', F.linear, [x, w, b], dy)
            if k != 2:
                add('matmul', torch.matmul, [x, w.T.contiguous()], dy)

    for training in (True, False):
        for relu in (True, False):
            # One channel each: clean; NaN, inf, -inf in x; NaN in gamma, beta, mean, var; NaN, inf in dy.
            x = spoilt((2, 10, 1, 2), 1, (2, nan), (4, inf), (6, -inf))
            norm = lambda x, g, b, m, v: (F.relu if relu else lambda y: y)(F.batch_norm(x, m, v, g, b, training=training))
            add('batch_norm', norm, [x, *(spoilt((10,), 2 + i, (4 + i, nan)) + (1 if i in (0, 3) else 0) for i in range(4))],
                spoilt((2, 10, 1, 2), 7, (16, nan), (18, inf)).tolist(), fixed=(3, 4), after=(3, 4), training=training, relu=relu)

    for value in (nan, inf):
        for o, x_shape, w_shape in (({'stride': 2, 'padding': 1, 'output_padding': 1}, (1, 3, 2, 3), (3, 2, 3, 3)),
                                    ({'stride': 1, 'groups': 2, 'dilation': 2}, (1, 4, 3, 2), (4, 3, 2, 2))):
            x, w, b = spoilt(x_shape, 1), spoilt(w_shape, 2), spoilt((w_shape[1] * o.get('groups', 1),), 3)
            f = lambda x, w, b: F.conv_transpose2d(x, w, b, **o)
            dy = spoilt(f(x, w, b).shape, 4).tolist()
            add('conv_transpose2d', f, [x, w, b], dy, **o)
        for groups in (1, 2, 4):
            x = spoilt((2, 4, 2, 3), 1, (2, value))
            add('group_norm', lambda x, g, b: F.group_norm(x, groups, g, b), [x, spoilt((4,), 2), spoilt((4,), 3)],
                spoilt((2, 4, 2, 3), 4, (25, value)).tolist(), groups=groups)
        for shape in ([3], [4, 3], [2, 4, 3]):
            x = spoilt((2, 2, 4, 3), 1, (2, value))
            add('layer_norm', lambda x, g, b: F.layer_norm(x, shape, g, b), [x, spoilt(shape, 2), spoilt(shape, 3)],
                spoilt((2, 2, 4, 3), 4, (25, value)).tolist(), shape=shape)
        add('pad', lambda x: F.pad(x, (1, 2, 0, 3, 1, 1), value=value), [spoilt((1, 2, 3, 2), 1, (3, inf))], pads=[1, 2, 0, 3, 1, 1], value=str(value))
        for weight in (1, 3):
            add('prelu', F.prelu, [spoilt((2, 3, 2, 2), 1, (1, value), (5, -value)), spoilt((weight,), 2, (0, value))])
        for o in ({'size': [5, 3]}, {'size': [2, 7]}, {'scale_factor': [2, 3]}):
            for bilinear, corners in ((0, 0), (1, 0), (1, 1)):
                kind = {'mode': 'bilinear', 'align_corners': bool(corners)} if bilinear else {'mode': 'nearest'}
                f = lambda x: F.interpolate(x, size=o.get('size'), scale_factor=o.get('scale_factor'), **kind)
                x = spoilt((1, 2, 3, 4), 1)
                add('interpolate', f, [x], spoilt(f(x).shape, 2).tolist(), bilinear=bilinear, align_corners=corners, **o)
                if not bilinear:
                    add('interpolate', f, [spoilt((1, 2, 3, 4), 1, (5, value))], spoilt(f(x).shape, 2, (5, value)).tolist(),
                        bilinear=bilinear, align_corners=corners, **o)
    image = spoilt((1, 3, 4, 4), 1, (0, nan), (5, nan), (7, inf), (18, -inf), (21, inf), (30, inf), *((i, -inf) for i in range(32, 48)))
    for dy in (1., nan, inf):
        for o in ({'kernel': 2, 'stride': 2, 'padding': 0}, {'kernel': 3, 'stride': 1, 'padding': 1}):
            add('max_pool2d', lambda x: F.max_pool2d(x, *o.values()), [image], dy, **o)
            add('avg_pool2d', lambda x: F.avg_pool2d(x, *o.values()), [image], dy, **o)
        for size in (1, 3):
            add('adaptive_avg_pool2d', lambda x: F.adaptive_avg_pool2d(x, size), [image], dy, size=size)
    return cases


def main(out):
    with open(f'{out}/models.txt', 'w') as f:
        for name, make in models.MODELS.items():
            f.write(f'model {name}\n')
            for key, t in make().state_dict().items():
                f.write(' '.join([key, *map(str, t.shape)]) + '\n')
    for name, value in (('optim', optimisers()), ('training', training()), ('schedule', schedules()), ('not_finite', not_finite()), ('step', steps())):
        with open(f'{out}/golden_{name}.json', 'w') as f:
            json.dump({'pytorch': torch.__version__, 'cases': value}, f, separators=(',', ':'))
            f.write('\n')


if __name__ == '__main__':
    main(sys.argv[1])
