"""Our quantizers against those of NNI 1.7, the program itself, step by step.

  quantizers_exact.py --model-quantize BUILD/examples/model_quantize --nni17 DIR [--only TEXT] [--data DIR] [--out FILE.json]

Needs a Python with NNI 1.7, PyTorch and NumPy; DIR holds nni17.py, which imports NNI there ("from nni17 import nni").

(a) forced: NNI trains 10 steps. From its weights, ranges and step count before steps 0, 1, 4 and 9 ours takes one step
    (--nni-compatible, SGD at 1 without momentum, weight decay 1e-4). The loss must be within 1e-5 relative of NNI's; the
    update of all parameters as far from that in float64 as at most twice the worse of NNI's own two memory layouts; and
    every weight of ours after the step must have the code that NNI gives to the same number. Excused, and counted: ties,
    where z + x/s (DoReFa: the part of n) lies within a few roundings of the middle of two codes.
    Where outputs are quantized too, a sum that is rounded otherwise moves an activation by a whole code, and NNI differs
    from itself by more than 1e-5 in its two layouts and with its images in another order. There the loss may be as far
    from NNI's as twice the widest of those differences, and the update as far from float64 as twice the worst ("own
    spread"). Where DoReFa's weights differ by ties before the step, loss and update are told, not judged ("ties before").
(b) free: naive with smooth activations, 10 steps from the same first values: every loss within 1e-3 relative. (Not with
    DoReFa, whose weights fill -1..1: its loss falls from 88 to 0 within the ten, and what is left is rounding.)

Images are the first of MNIST and CIFAR-10 under --data, or, without it, patterns with noise, written here in the formats
that both sides read. Exit status 1 if a bar is missed.
"""
import argparse, csv, json, math, os, shutil, subprocess, sys, tempfile
import numpy as np, torch, torch.nn.functional as F
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import models

BATCH, STEPS, FORCED, DECAY = 16, 10, (0, 1, 4, 9), 1e-4
CONTIGUOUS, LAST = torch.contiguous_format, torch.channels_last
NORMS = {'mnist': ((.1307,), (.3081,)), 'cifar10': ((.4914, .4822, .4465), (.2023, .1994, .2010))}
CLASSES = {'naive': 'NaiveQuantizer', 'qat': 'QAT_Quantizer', 'dorefa': 'DoReFaQuantizer', 'bnn': 'BNNQuantizer'}


def entry(types, bits, *op_types, **more):
    return {'quant_types': types, 'quant_bits': bits, 'op_types': list(op_types), **more}


W, O, WO = ['weight'], ['output'], ['weight', 'output']
CONFIGS = [
    ('naive', 'naive', [entry(W, 8, 'Conv2d', 'Linear')]),
    ('naive', 'qat', [entry(W, 8, 'Conv2d', 'Linear')]),
    ('naive', 'qat', [entry(WO, {'weight': 4, 'output': 8}, 'Conv2d', 'Linear', quant_start_step=1)]),
    ('naive', 'qat', [entry(W, 1, 'Conv2d'), entry(O, 4, 'BatchNorm2d')]),
    ('naive', 'dorefa', [entry(W, 1, 'Conv2d', 'Linear')]),
    ('naive', 'bnn', [entry(W, 1, 'Conv2d', 'Linear')]),
    ('naive', 'bnn', [entry(WO, 1, 'Conv2d')]),
    ('lenet', 'naive', [entry(W, {'weight': 8}, 'Conv2d')]),
    ('lenet', 'qat', [entry(W, 2, 'Conv2d', 'Linear', quant_start_step=1)]),
    ('lenet', 'qat', [entry(O, 8, 'Conv2d', 'Linear')]),
    ('lenet', 'dorefa', [entry(W, 2, 'Conv2d', 'Linear')]),
    ('lenet', 'bnn', [entry(W, 1, 'Linear')]),
    ('vgg11', 'naive', [entry(W, 8, 'Conv2d', 'Linear')]),
    ('vgg11', 'qat', [entry(W, 8, 'Conv2d', 'Linear'), entry(O, 8, 'ReLU', quant_start_step=1)]),
    ('vgg11', 'qat', [entry(W, 4, 'Conv2d'), entry(WO, 8, 'Linear')]),
    ('vgg11', 'dorefa', [entry(W, 4, 'Conv2d')]),
    ('resnet20', 'naive', [entry(W, 8, 'Conv2d', 'Linear')]),
    ('resnet20', 'qat', [entry(W, 8, 'Conv2d', 'Linear'), entry(O, 8, 'BatchNorm2d')]),
    ('resnet20', 'dorefa', [entry(W, 8, 'Conv2d')]),
    ('resnet20', 'bnn', [entry(W, 1, 'Conv2d')]),
]
FREE = [('naive-smooth', 'naive', [entry(W, 8, 'Conv2d', 'Linear')]),
        ('naive-smooth', 'qat', [entry(W, 8, 'Conv2d', 'Linear')]),
        ('naive-smooth', 'qat', [entry(W, 4, 'Conv2d', 'Linear')])]


# ---- Images: uint8 arrays, the file formats, and what a network is given

def images(kind, data):
    n = BATCH * STEPS
    if data and kind == 'cifar10':
        path = next(p for p in (os.path.join(data, d, 'data_batch_1.bin') for d in ('', 'cifar10', 'cifar-10-batches-bin')) if os.path.exists(p))
        record = np.fromfile(path, np.uint8)[:3073 * n].reshape(-1, 3073)
        return record[:, 1:].reshape(-1, 3, 32, 32), record[:, 0]
    if data:
        def read(name, skip, size):
            path = next(p for p in (os.path.join(data, d, name) for d in ('', 'mnist', 'MNIST/raw')) if os.path.exists(p))
            return np.fromfile(path, np.uint8)[skip:skip + size]
        return read('train-images-idx3-ubyte', 16, 784 * n).reshape(-1, 1, 28, 28), read('train-labels-idx1-ubyte', 8, n)
    g = np.random.default_rng(0)
    shape = (3, 32, 32) if kind == 'cifar10' else (1, 28, 28)
    y = g.integers(0, 10, n, dtype=np.uint8)
    x = g.integers(40, 216, (10, *shape))[y] + g.integers(-40, 40, (n, *shape))
    return x.clip(0, 255).astype(np.uint8), y


def write_set(kind, folder, x, y):
    """The batch as a whole training set (padded where the format has a size); a test set of its images."""
    if kind == 'mnist':
        def idx(name, magic, dims, a):
            with open(os.path.join(folder, name), 'wb') as f:
                f.write(np.array([magic, *dims], '>i4').tobytes() + a.tobytes())
        for start in ('train', 't10k'):
            idx(start + '-images-idx3-ubyte', 2051, (len(x), 28, 28), x)
            idx(start + '-labels-idx1-ubyte', 2049, (len(y),), y)
        return
    records = np.zeros((10000, 3073), np.uint8)
    records[:len(x), 0], records[:len(x), 1:] = y, x.reshape(len(x), -1)
    first = os.path.join(folder, 'data_batch_1.bin')
    records.tofile(first)
    for other in ('data_batch_2.bin', 'data_batch_3.bin', 'data_batch_4.bin', 'data_batch_5.bin', 'test_batch.bin'):
        os.link(first, os.path.join(folder, other))


def as_input(kind, x):
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in NORMS[kind])
    return (torch.from_numpy(x.astype(np.float32)) / 255 - mean) / std


# ---- NNI

class Theirs:
    """A model under NNI's quantizer, from a state (raw weights and statistics), observers and a step count."""
    def __init__(self, name, quantizer, config, state, observers=None, t=1, layout=CONTIGUOUS, lr=.01):
        self.name, self.kind, self.config = name, quantizer, config
        self.model = models.make(name)
        self.model.load_state_dict(state)
        for m in self.model.modules():
            if isinstance(m, (torch.nn.Dropout, torch.nn.Dropout2d)):
                m.p = 0
        self.model = self.model.to(memory_format=layout).train()
        self.layout, self.optimizer = layout, torch.optim.SGD(self.model.parameters(), lr, weight_decay=DECAY)
        self.quantizer = getattr(nni, CLASSES[quantizer])(self.model, json.loads(json.dumps(config)), self.optimizer)
        self.quantizer.compress()
        self.wrappers = {w.name: w for w in self.quantizer.get_modules_wrapper()}
        if hasattr(self.quantizer, 'steps'):
            self.quantizer.steps = t
        for layer, v in (observers or {}).items():
            if quantizer == 'naive':
                self.quantizer.layer_scale[layer] = torch.tensor(v) / 127
            else:
                module = self.wrappers[layer].module
                module.tracked_min_biased, module.tracked_max_biased = torch.tensor([v[0]]), torch.tensor([v[1]])

    def state(self):
        """Under the plain model's names."""
        plain = {}
        for key, t in self.model.state_dict().items():
            parts = key.split('.')
            for i in range(len(parts) - 1, 0, -1):
                if parts[i] == 'module':
                    del parts[i]
            if parts[-1] == 'weight' and key.replace('.weight', '.old_weight') in self.model.state_dict():
                continue
            if parts[-1] in ('scale', 'zero_point', 'ema_decay') or parts[-1].startswith('tracked_'):
                continue
            plain['.'.join([*parts[:-1], 'weight' if parts[-1] == 'old_weight' else parts[-1]])] = t.detach().clone().contiguous()
        return plain

    def observers(self):
        if self.kind == 'naive':
            return {layer: (s * 127).item() for layer, s in self.quantizer.layer_scale.items()}
        return {layer: (w.module.tracked_min_biased.item(), w.module.tracked_max_biased.item())
                for layer, w in self.wrappers.items() if hasattr(w.module, 'tracked_min_biased')}

    def quantized(self, layer, weight):
        """What NNI makes of a layer's weight now."""
        w = self.wrappers[layer]
        out = self.quantizer.quantize_weight(weight.clone(), w)
        scale, zero = getattr(w.module, 'scale', None), getattr(w.module, 'zero_point', None)
        return out, scale, zero

    def step(self, x, y):
        loss = loss_of(self.name, self.model(x.to(memory_format=self.layout)), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def loss_of(name, out, y):
    return F.nll_loss(out, y) if name.startswith(('naive', 'lenet')) else F.cross_entropy(out, y)


def winner(config, kind):
    return ([e for e in config if kind in e['op_types']] or [None])[-1]


class Double(torch.autograd.Function):
    """What NNI puts behind a layer, in double. `how` maps a tensor to what is seen and to where the gradient passes."""
    @staticmethod
    def forward(ctx, x, how):
        y, passes = how(x)
        ctx.save_for_backward(passes)
        return y

    @staticmethod
    def backward(ctx, dy):
        return dy * ctx.saved_tensors[0], None


def exact_update(theirs, state, observers, t, x, y, lr):
    """The update of that step in float64: the codes of weights are NNI's, everything behind them is double."""
    model = models.make(theirs.name)
    model.load_state_dict(state)
    for m in model.modules():
        if isinstance(m, (torch.nn.Dropout, torch.nn.Dropout2d)):
            m.p = 0
    raw = {k: v.double() for k, v in state.items()}
    model = model.double().train()
    for layer, module in model.named_modules():
        e = winner(theirs.config, type(module).__name__)
        if not e or e.get('quant_start_step', 0) > t:
            continue
        bits = e['quant_bits']
        if 'weight' in e['quant_types']:
            seen, _, _ = theirs.quantized(layer, state[layer + '.weight'])
            module.weight.data = seen.detach().double()
        if 'output' in e['quant_types']:
            b = bits if isinstance(bits, int) else bits['output']
            if theirs.kind == 'bnn':
                how = lambda v: (torch.where(v < 0, -1., 1.).double(), (v.abs() <= 1).double())
            else:
                def how(v, b=b, e=observers[layer]):
                    # the average as NNI keeps it, in single precision: its weights are part of the meaning
                    decay = float(np.float32(.99))
                    low, high = (old * decay + float(np.float32(1) - np.float32(.99)) * float(now) for old, now in zip(e, (v.min(), v.max())))
                    share = float(np.float32(1) - np.float32(np.float64(np.float32(.99)) ** t))
                    low, high, n = min(low / share, 0), max(high / share, 0), (1 << b) - 1
                    s = (high - low) / n
                    z = min(max(round(-low / s), 0), n)
                    return s * (torch.round((z + v / s).clamp(0, n)) - z), torch.ones_like(v)
            module.register_forward_hook(lambda m, i, o, how=how: Double.apply(o, how))
    for m in model.modules():
        if isinstance(m, torch.nn.ReLU):
            m.inplace = False
    loss = loss_of(theirs.name, model(x.double()), y)
    loss.backward()
    return loss.item(), {k: -lr * (p.grad + DECAY * raw[k]) for k, p in model.named_parameters()}


# ---- Ours

def ours(binary, name, quantizer, config, folder, kind, state, x, y, lr, observers=None, t=None):
    """Takes len(x) / BATCH steps. (losses by step, raw.pth)"""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder + '/data')
    write_set(kind, folder + '/data', x, y)
    torch.save(state, folder + '/in.pth')
    with open(folder + '/config.json', 'w') as f:
        json.dump(config, f)
    command = [binary, '--model', name, '--weights', folder + '/in.pth', '--quantizer', quantizer, '--config', folder + '/config.json',
               '--nni-compatible', '--dropout', 'off', '--dataset', kind, '--data', folder + '/data', '--images', str(len(x)),
               '--test-images', '4', '--augment', 'none', '--shuffle', 'off', '--batch-size', str(BATCH), '--lr', str(lr), '--momentum', '0',
               '--weight-decay', str(DECAY), '--schedule', 'none', '--epochs', '1', '--max-steps', str(len(x) // BATCH),
               '--log-steps', folder + '/losses.csv', '--batch-sizes', '1', '--repeats', '1', '--exact-images', '0', '--out',
               folder + '/out']
    if t is not None:
        ports = {}
        for layer, v in observers.items():
            if quantizer == 'naive':
                ports[layer + '.weight_range'] = torch.tensor([[-v], [v]])
                ports[layer + '.weight_updates'] = torch.tensor([1])
            else:
                ports[layer + '.output_range'] = torch.tensor([[v[0]], [v[1]]])
        torch.save({'step': t, 'ports': ports}, folder + '/observers.pth')
        command += ['--observer-state', folder + '/observers.pth']
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f'{" ".join(command)}\nended with {run.returncode}: {run.stderr or run.stdout}')
    with open(folder + '/losses.csv') as f:
        return [float(row['loss']) for row in csv.DictReader(f)], torch.load(folder + '/out/raw.pth')


def distance(a, b):
    return math.sqrt(sum(((a[k].double() - b[k].double())**2).sum().item() for k in b))


def norm(a):
    return math.sqrt(sum((v.double()**2).sum().item() for v in a.values()))


def codes(theirs, raw):
    """(weights compared, ties excused, wrong): ours as its layers see them against NNI's of the same raw numbers."""
    count = ties = wrong = 0
    for key, seen in raw['seen'].items():
        layer = key.rsplit('.', 1)[0]
        weight = raw['model'][key]
        e = winner(theirs.config, type(theirs.wrappers[layer].module).__name__)
        expected, s, z = theirs.quantized(layer, weight)
        if theirs.kind == 'dorefa':
            n = (1 << e['quant_bits']) - 1
            t = weight.double().tanh()
            place = (t / (2 * t.abs().max()) + .5) * n
            ours_code, their_code, slack = torch.round((seen * n + n) / 2), torch.round((expected * n + n) / 2), n * 2**-21
        elif theirs.kind == 'bnn':
            ours_code, their_code, place, slack = seen, expected, weight, 0
        elif theirs.kind == 'naive':
            s = theirs.quantizer.layer_scale[layer]
            ours_code, their_code, place, slack = torch.round(seen / s), torch.round(expected / s), weight / s + .5, 2**-16
        else:
            ours_code, their_code = torch.round(seen / s + z), torch.round(expected / s + z)
            place, slack = z + weight / s, 2**-15
        apart = ours_code != their_code
        near = (place.double() - place.double().floor() - .5).abs() <= slack
        count += weight.numel()
        ties += (apart & near).sum().item()
        wrong += (apart & ~near).sum().item()
    return count, ties, wrong


def forced(a, name, quantizer, config, folder, x, y):
    kind = 'mnist' if name in ('naive', 'lenet') else 'cifar10'
    torch.manual_seed(1)
    first = {k: v.clone() for k, v in models.make(name).state_dict().items()}
    run, rows, good = Theirs(name, quantizer, config, first), [], True
    xs = [x[i:i + BATCH] for i in range(0, len(x), BATCH)]
    ys = [y[i:i + BATCH] for i in range(0, len(y), BATCH)]
    for step in range(STEPS):
        images, labels = as_input(kind, xs[step]), torch.from_numpy(ys[step].astype(np.int64))
        if step in FORCED:
            state, observers, t = run.state(), run.observers(), step + 1
            their_loss, their_update = [], []
            chaotic = any('output' in e['quant_types'] for e in config)
            flips = 0
            if quantizer == 'dorefa':  # does a weight lie on the other side of a tie before the step?
                _, still = ours(a.model_quantize, name, quantizer, config, folder, kind, state, xs[step], ys[step], 0)
                flips = codes(Theirs(name, quantizer, config, state), still)[1]
            orders = [slice(None)] + ([torch.arange(BATCH - 1, -1, -1), torch.randperm(BATCH)] if chaotic or flips else [])
            for layout, order in [(l, o) for o in orders for l in (CONTIGUOUS, LAST)]:
                one = Theirs(name, quantizer, config, state, observers, t, layout, lr=1)
                their_loss.append(one.step(images[order], labels[order]))
                end = one.state()
                their_update.append({k: end[k].double() - state[k].double() for k, _ in models.make(name).named_parameters()})
            reference = Theirs(name, quantizer, config, state, observers, t)
            exact_loss, exact = exact_update(reference, state, observers, t, images, labels, 1)
            losses, raw = ours(a.model_quantize, name, quantizer, config, folder, kind, state, xs[step], ys[step], 1, observers, t)
            update = {k: raw['model'][k].double() - state[k].double() for k in exact}
            after = Theirs(name, quantizer, config, raw['model'], observers, t + 1)
            if quantizer == 'naive':  # the scale has met the weights of this step, too
                for layer in observers or [w for w in after.wrappers]:
                    after.quantized(layer, state[layer + '.weight'])
            compared, ties, wrong = codes(after, raw)
            row = {'step': step, 'loss': their_loss[0], 'loss_error': abs(losses[0] / their_loss[0] - 1),
                   'nni_loss_error': abs(their_loss[1] / their_loss[0] - 1), 'update_error': distance(update, exact) / norm(exact),
                   'nni_update_errors': [distance(u, exact) / norm(exact) for u in their_update], 'codes': compared, 'ties': ties,
                   'wrong': wrong, 'double_loss_error': abs(exact_loss / their_loss[0] - 1)}
            spread = max(abs(l / their_loss[0] - 1) for l in their_loss) if chaotic else 0
            row['own_spread'], row['flips_before'] = spread, flips
            row['good'] = row['loss_error'] <= max(1e-5, 2 * spread) and row['update_error'] <= 2 * max(row['nni_update_errors']) and not wrong
            if flips and not wrong:  # another network than NNI's by so many weights: told, not judged
                row['good'] = True
            mark = f', {flips} ties before' if flips else f', own spread {spread:.1e}' if chaotic else ''
            good = good and row['good']
            rows.append(row)
            print(f"  step {step}: loss {row['loss']:.6f}, off by {row['loss_error']:.1e} (NNI's layouts {row['nni_loss_error']:.1e}); "
                  f"update off by {row['update_error']:.2e} (NNI {row['nni_update_errors'][0]:.2e}, {row['nni_update_errors'][1]:.2e}); "
                  f"{compared} codes, {ties} ties, {wrong} wrong{mark}{'' if row['good'] else '  MISSED'}", flush=True)
        run.step(images, labels)
    return good, rows


def free(a, name, quantizer, config, folder, x, y):
    torch.manual_seed(1)
    first = {k: v.clone() for k, v in models.make(name).state_dict().items()}
    run = Theirs(name, quantizer, config, first)
    theirs = [run.step(as_input('mnist', x[i:i + BATCH]), torch.from_numpy(y[i:i + BATCH].astype(np.int64))) for i in range(0, len(x), BATCH)]
    found, _ = ours(a.model_quantize, name, quantizer, config, folder, 'mnist', first, x, y, .01)
    worst = max(abs(f / t - 1) for f, t in zip(found, theirs))
    good = len(found) == STEPS and worst <= 1e-3
    print(f"  {STEPS} steps, loss {theirs[0]:.4f} to {theirs[-1]:.4f}: worst off by {worst:.1e}{'' if good else '  MISSED'}", flush=True)
    return good, {'nni': theirs, 'ours': found, 'worst': worst}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--model-quantize', required=True, help='our executable')
    p.add_argument('--nni17', required=True, help='folder of nni17.py')
    p.add_argument('--only', default='', help='configurations whose name contains this')
    p.add_argument('--data', help='folder of MNIST and CIFAR-10')
    p.add_argument('--threads', type=int, default=2, help="PyTorch's")
    p.add_argument('--out')
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    sys.path.append(a.nni17)
    global nni
    from nni17 import nni
    sets = {kind: images(kind, a.data) for kind in NORMS}
    report, missed, total, codes_seen, ties = {}, [], 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for bar, table in (('forced', CONFIGS), ('free', FREE)):
            for name, quantizer, config in table:
                title = f'{bar}: {name} {quantizer} {json.dumps(config)}'
                if a.only not in title:
                    continue
                print(title, flush=True)
                x, y = sets['mnist' if name.startswith(('naive', 'lenet')) else 'cifar10']
                good, report[title] = (forced if bar == 'forced' else free)(a, name, quantizer, config, folder + '/run', x, y)
                total += 1
                if bar == 'forced':
                    codes_seen += sum(r['codes'] for r in report[title])
                    ties += sum(r['ties'] for r in report[title])
                if not good:
                    missed.append(title)
    for title in missed:
        print('MISSED', title)
    print(f'{total} configurations beside NNI 1.7, {codes_seen} weight codes, {ties} ties excused: {len(missed)} missed')
    if a.out:
        with open(a.out, 'w') as f:
            json.dump(report, f, indent=1)
    sys.exit(bool(missed) or total == 0)


if __name__ == '__main__':
    main()
