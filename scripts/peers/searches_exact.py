"""Our searches against NNI's, the programs themselves: every candidate, its performance and what is chosen.

  searches_exact.py --model-prune BUILD/examples/model_prune --data DIR --nni17 DIR [--models lenet,naive,vgg16]
                    [--searches annealing,netadapt,autocompress,sensitivity,defects17,defects18] [--seeds 3] [--images 200]
                    [--out FILE.json]

Needs a Python with NNI 1.7 (and 1.8 for sensitivity), PyTorch and NumPy; DIR of --nni17 holds nni17.py, nni_graph.py and
nni_later.py, which import NNI there. Both sides judge candidates by the same images of MNIST and CIFAR-10 (the last of
the first 1,000 training images), on weights that some steps of SGD here have trained.

What NNI is given: our uniforms in the place of numpy.random's. What is repaired in subclasses of its classes, because it
is a defect that ours does not share: NetAdapt's shares are rounded up to whole filters, not down to none; a layer that
would be emptied is passed over; Sensitivity takes the last ratio that a layer bore and does not overshoot in its last
round. Its evaluator masks the batch norm behind a masked filter, as our masks do (a mask of NNI leaves a constant there).
AutoCompress runs with a trainer that does nothing: then ADMM's masks are those of its base, and annealing, speedup and
the ratios of the next round are compared.

Ours may end sooner than NNI's NetAdapt, which counts nominal shares: then it must be the beginning of NNI's.
defects17 and defects18 show NNI failing as it is, on naive: NetAdapt, annealing; sensitivity, AMC.
"""
import argparse, contextlib, csv, io, itertools, json, math, os, re, subprocess, sys, tempfile
import numpy as np
import torch, torch.nn.functional as F
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from models import MODELS

M64, M32, SEED = (1 << 64) - 1, (1 << 32) - 1, 3
NORMS = {'mnist': ((.1307,), (.3081,)), 'cifar10': ((.4914, .4822, .4465), (.2023, .1994, .2010))}


def philox(seed, stream, counter):  # core/random.h
    k0, k1 = seed & M32, seed >> 32
    v = [counter & M32, counter >> 32, stream & M32, stream >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * v[0], 0xCD9E8D57 * v[2]
        v = [(b >> 32) ^ v[1] ^ k0, b & M32, (a >> 32) ^ v[3] ^ k1, a & M32]
        k0, k1 = (k0 + 0x9E3779B9) & M32, (k1 + 0xBB67AE85) & M32
    return v


def stream_of(name):
    h = 1469598103934665603
    for c in name.encode(): h = ((h ^ c) * 1099511628211) & M64
    return (h * 1099511628211) & M64


class Uniform:
    """numpy.random.uniform with the numbers that SearchRun::uniform gives."""
    def __init__(self): self.n, self.stream = 0, stream_of('search')

    def one(self):
        v = philox(SEED, self.stream, self.n); self.n += 1
        return ((v[0] << 32 | v[1]) >> 11) * 2. ** -53

    def __call__(self, low=0., high=1., size=None):
        if size is None: return low + (high - low) * self.one()
        return np.array([low + (high - low) * self.one() for _ in range(size)])


def images(name, data, n):
    """The first n training images and labels, normalised as model_prune does."""
    kind = 'mnist' if name in ('lenet', 'naive') else 'cifar10'
    find = lambda folders, f: next(p for p in (os.path.join(data, d, f) for d in folders) if os.path.exists(p))
    if kind == 'mnist':
        x = np.fromfile(find(('', 'mnist', 'MNIST/raw'), 'train-images-idx3-ubyte'), np.uint8)[16:].reshape(-1, 1, 28, 28)[:n]
        y = np.fromfile(find(('', 'mnist', 'MNIST/raw'), 'train-labels-idx1-ubyte'), np.uint8)[8:][:n]
    else:
        r = np.fromfile(find(('', 'cifar-10-batches-bin'), 'data_batch_1.bin'), np.uint8).reshape(-1, 3073)[:n]
        x, y = r[:, 1:].reshape(-1, 3, 32, 32), r[:, 0]
    mean, std = (torch.tensor(v).reshape(1, -1, 1, 1) for v in NORMS[kind])
    return (torch.from_numpy(x.astype(np.float32)) / 255 - mean) / std, torch.from_numpy(y.astype(np.int64))


def trained(name, x, y, steps):
    torch.manual_seed(SEED - 2)
    m = MODELS[name]()
    o = torch.optim.SGD(m.parameters(), .02 if name == 'lenet' else .05, momentum=.9, weight_decay=1e-4)
    m.train()
    for s in range(steps):
        i = torch.arange(s * 32, (s + 1) * 32) % len(x)
        o.zero_grad(); F.cross_entropy(m(x[i]), y[i]).backward(); o.step()
    return m.eval()


class Evaluator:
    """Accuracy, with the batch norm behind a filter without weights silenced, too."""
    def __init__(self, x, y): self.x, self.y, self.seen = x, y, []

    def __call__(self, model):
        model.eval()
        convs, hooks, last = {}, [], None
        for name, m in model.named_modules():
            inner = getattr(m, 'module', m)
            if type(m).__name__ == 'PrunerModuleWrapper': last = m
            elif type(m).__name__ == 'Conv2d' and getattr(last, 'module', None) is not m: last = m
            elif type(m).__name__ == 'BatchNorm2d' and last is not None: convs[m] = last
        if hasattr(model, 'bn1') and hasattr(model, 'conv2'): convs = {model.bn1: model.conv1, model.bn2: model.conv2}
        for bn, conv in convs.items():
            def hook(_, __, out, conv=conv):
                inner = getattr(conv, 'module', conv)
                w = inner.weight.data * (conv.weight_mask if hasattr(conv, 'weight_mask') else 1)
                return out * (w.flatten(1).abs().sum(1) > 0).float().reshape(1, -1, 1, 1)
            hooks.append(bn.register_forward_hook(hook))
        with torch.no_grad(): p = (model(self.x).argmax(1) == self.y).sum().item() / len(self.y)
        for h in hooks: h.remove()
        self.seen.append(p)
        return p


def counts(config, model):
    """{layer: filters that go} of a config list."""
    size = {n: m.weight.size(0) for n, m in model.named_modules() if isinstance(m, torch.nn.Conv2d)}
    return {n: int(size[n] * e['sparsity']) for e in config for n in e['op_names'] if int(size[n] * e['sparsity'])}


def ours(a, name, folder, search, sparsity, settings):
    out = os.path.join(folder, search)
    kind = 'mnist' if name in ('lenet', 'naive') else 'cifar10'
    data = os.path.join(a.data, 'mnist') if kind == 'mnist' and os.path.isdir(os.path.join(a.data, 'mnist')) else a.data
    config = os.path.join(folder, 'config.json')
    with open(config, 'w') as f: json.dump([{'sparsity': sparsity, 'op_types': ['Conv2d']}], f)
    command = [a.model_prune, '--model', name, '--weights', os.path.join(folder, 'in.pth'), '--pruner', 'l1', '--search', search,
               '--config', config, '--dataset', kind, '--data', data, '--images', '1000', '--test-images', '64', '--search-images',
               str(a.images), '--search-settings', ','.join(f'{k}={v}' for k, v in settings.items()), '--seed', str(SEED), '--epochs', '0',
               '--finetune-epochs', '0', '--out', out, '--force']
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode: sys.exit(f'{" ".join(command)}\nended with {run.returncode}: {run.stderr or run.stdout}')
    with open(os.path.join(out, 'search_history.csv'), newline='') as f:
        rows = [(float(r['performance']), json.loads(r['config_list'])) for r in csv.DictReader(f)]
    with open(os.path.join(out, 'search_result.json')) as f: result = json.load(f)
    return rows, json.loads(result['config_list']), result['performance'], out


def same(rows, theirs, model, prefix=False):
    """Lists of (performance, config list): the first difference, or None. Performances may differ where one image in
    a few hundred lies between two classes; such are counted."""
    if len(rows) != len(theirs) and not (prefix and len(rows) <= len(theirs)): return f'{len(rows)} candidates, NNI has {len(theirs)}'
    for i, ((p, c), (q, d)) in enumerate(zip(rows, theirs)):
        if counts(c, model) != counts(d, model): return f'candidate {i}: {counts(c, model)}, NNI has {counts(d, model)}'
        if abs(p - q) > 1e-12: return f'candidate {i}: performance {p}, NNI has {q}'
    return None


def annealing(a, name, folder, model, x, y):
    from nni17 import nni  # noqa: F401
    from nni.compression.torch import SimulatedAnnealingPruner
    for sparsity in (.3, .5, .7):
        rows, chosen, best, _ = ours(a, name, folder, 'annealing', sparsity, {'energy_scale': 1})
        np.random.uniform = Uniform()
        m = MODELS[name](); m.load_state_dict(model.state_dict())
        p = SimulatedAnnealingPruner(m, [{'sparsity': sparsity, 'op_types': ['Conv2d']}], Evaluator(x, y), experiment_data_dir=folder)
        found = p.compress(return_config_list=True)
        theirs = [(h['performance'], h['config_list']) for h in p._search_history]
        why = same(rows, theirs, model)
        close = all(abs(e['sparsity'] - f['sparsity']) < 1e-12 for (_, c), (_, d) in zip(rows, theirs)
                    for e, f in zip(sorted(c, key=lambda e: e['op_names']), sorted(d, key=lambda e: e['op_names'])))
        if not why and not close: why = 'sparsities differ by more than 1e-12'
        if not why and counts(chosen, model) != counts(found, model): why = f'chosen {counts(chosen, model)}, NNI {counts(found, model)}'
        yield f'sparsity {sparsity}', len(rows), why


def netadapt(a, name, folder, model, x, y):
    from nni17 import nni  # noqa: F401
    from nni.compression.torch import NetAdaptPruner

    class Repaired(NetAdaptPruner):
        def whole(self, op, sparsity):
            n = dict(self.sizes)[op]
            k = math.ceil(n * sparsity - 1e-9)
            s = k / n
            while int(n * s) < k: s = np.nextafter(s, 2)
            return k, n, float(s)

        def _update_config_list(self, config_list, op_name, sparsity):
            new = super()._update_config_list(config_list, op_name, self.whole(op_name, sparsity)[2])
            self.tried = new
            return new

        def _calc_num_related_weights(self, op_name):
            related = super()._calc_num_related_weights(op_name)
            w = next(w for w in self.get_modules_wrapper() if w.name == op_name)
            now = 1 - w.weight_mask.sum().item() / w.weight_mask.numel()
            k, n, _ = self.whole(op_name, now + self.delta / related)
            return 1e-9 if k >= n else related

    for sparsity, step in ((.02, .003), (.05, .01)) if name == 'lenet' else ((.04, .01), (.08, .02)) if name == 'naive' else ((.2, .05), (.3, .1)):
        rows, chosen, best, _ = ours(a, name, folder, 'netadapt', sparsity, {'sparsity_per_iteration': step})
        m = MODELS[name](); m.load_state_dict(model.state_dict())
        evaluate, theirs = Evaluator(x, y), []

        def record(masked):
            q = evaluate(masked)
            theirs.append((q, json.loads(json.dumps(p.tried))))
            return q
        p = Repaired(m, [{'sparsity': sparsity, 'op_types': ['Conv2d']}], lambda _: None, record, sparsity_per_iteration=step, experiment_data_dir=folder)
        p.sizes = [(n, c.weight.size(0)) for n, c in model.named_modules() if isinstance(c, torch.nn.Conv2d)]
        p.delta = int(sum(c.weight.numel() for c in model.modules() if isinstance(c, (torch.nn.Conv2d, torch.nn.Linear))) * step)
        p.compress()
        yield f'sparsity {sparsity}, {step} per round', len(rows), same(rows, theirs, model, prefix=True)


def autocompress(a, name, folder, model, x, y):
    from nni17 import nni  # noqa: F401
    import nni_graph  # noqa: F401
    from nni.compression.torch.pruning import auto_compress_pruner as module
    for sparsity in (.4, .6):
        rows, _, best, out = ours(a, name, folder, 'autocompress', sparsity, {'energy_scale': 1, 'admm_num_iterations': 0, 'num_iterations': 2})
        rows = [r for r in rows if r[1]]  # without the look at what each round leaves
        np.random.uniform = Uniform()
        histories = []

        class Recorded(module.SimulatedAnnealingPruner):
            def compress(self, **k):
                found = super().compress(**k)
                histories.extend((h['performance'], h['config_list']) for h in self._search_history)
                return found
        original, module.SimulatedAnnealingPruner = module.SimulatedAnnealingPruner, Recorded
        m = MODELS[name](); m.load_state_dict(model.state_dict()); m.eval()
        p = module.AutoCompressPruner(m, [{'sparsity': sparsity, 'op_types': ['Conv2d']}], lambda *_, **__: None, Evaluator(x, y), x[:1],
                                      num_iterations=2, admm_num_iterations=0, experiment_data_dir=folder)
        small = p.compress()
        module.SimulatedAnnealingPruner = original
        shapes = {k: tuple(v.shape) for k, v in small.state_dict().items()}
        mine = {k: tuple(v.shape) for k, v in torch.load(os.path.join(out, 'model.pth')).items()}
        why = None
        if len(rows) != len(histories): why = f'{len(rows)} candidates, NNI has {len(histories)}'
        for i, ((p1, c), (q, d)) in enumerate(zip(rows, histories)):
            flat = lambda config: sorted((e['op_names'][0], round(e['sparsity'], 11)) for e in config)
            if not why and (flat(c) != flat(d) or abs(p1 - q) > 1e-12): why = f'candidate {i}: {p1} {flat(c)}, NNI has {q} {flat(d)}'
        if not why and any(shapes[k] != mine[k] for k in shapes if k in mine): why = 'the shrunk networks have other shapes'
        yield f'sparsity {sparsity}, 2 rounds', len(rows), why


def sensitivity(a, name, folder, model, x, y):
    os.environ['NNI'] = '1.8'
    from nni_later import nni  # noqa: F401
    from nni.compression.torch import SensitivityPruner

    class Repaired(SensitivityPruner):
        def normalize(self, ratios, target_pruned):
            return super().normalize(ratios, min(target_pruned, self.config_list[0]['sparsity'] - super().current_sparsity()))

        def current_sparsity(self): return super().current_sparsity() + 1e-9

    def last_borne(original, threshold, sensitivities):
        borne = {}
        for layer, by_ratio in sensitivities.items():
            borne[layer] = 0
            for ratio in sorted(by_ratio):
                if by_ratio[ratio] < original - threshold: break
                borne[layer] = ratio
        return borne
    for sparsity, step in ((.3, .1), (.5, .2)):
        rows, chosen, best, _ = ours(a, name, folder, 'sensitivity', sparsity, {'sparsity_per_iter': step})
        m = MODELS[name](); m.load_state_dict(model.state_dict())
        evaluate, rounds = Evaluator(x, y), os.path.join(folder, f'rounds{sparsity}')
        p = Repaired(m, [{'sparsity': sparsity, 'op_types': ['Conv2d']}], lambda: evaluate(m), sparsity_proportion_calc=last_borne,
                     sparsity_per_iter=step, checkpoint_dir=rounds)
        p.compress()
        lists = sorted((f for f in os.listdir(rounds) if f.endswith('_pruner.json')), key=lambda f: int(f.split('_')[1]))
        theirs = [json.load(open(os.path.join(rounds, f))) for f in lists]
        done = [c for _, c in rows]
        why = None
        for i, d in enumerate(theirs):  # every round's list stands among ours, in order
            flat = lambda config: sorted((e['op_names'][0], round(e['sparsity'], 9)) for e in config)
            at = next((k for k, c in enumerate(done) if flat(c) == flat(d)), None)
            if at is None:
                why = f'round {i + 1}: NNI has {flat(d)}'
                break
            done = done[at + 1:]
        if not why and done: why = f'{len(done)} candidates after NNI has ended'
        yield f'sparsity {sparsity}, {step} per round, {len(theirs)} rounds', len(rows), why


def shown(what, said):
    """A row of defects: it fails where NNI does not do what it is said to do."""
    return f'{what}: {said}' if said else what, 0, None if said else 'not shown'


def defects17(a, name, folder, model, x, y):
    """Ours: the tests of search_test.cpp that name NNI's NetAdapt and annealing."""
    if name != 'naive': return
    from nni17 import nni  # noqa: F401
    from nni.compression.torch import NetAdaptPruner, SimulatedAnnealingPruner
    fresh = lambda: (lambda m: (m.load_state_dict(model.state_dict()), m)[1])(MODELS[name]())
    files = [os.path.join(folder, f) for f in ('model.pth', 'mask.pth')]
    def exported(p):
        p.export_model(*files)
        return torch.load(files[0]), torch.load(files[1])
    p = NetAdaptPruner(fresh(), [{'sparsity': .8, 'op_types': ['Conv2d']}], lambda _: None, Evaluator(x, y), sparsity_per_iteration=.05, experiment_data_dir=folder)
    p.compress()
    _, masks = exported(p)
    gone, all_ = (sum(int(f(m['weight'])) for m in masks.values()) for f in (lambda w: (w == 0).sum(), lambda w: w.numel()))
    yield shown('NetAdapt, .8 asked', f'ends with {gone / all_:.3f} masked' if gone < .79 * all_ else None)

    class Counted(NetAdaptPruner):
        """Ends once it has looked at its layers 1,000 times and found nothing to try."""
        idle = 0

        def _calc_num_related_weights(self, op_name):
            self.idle += 1
            if self.idle > 1000: raise TimeoutError
            return super()._calc_num_related_weights(op_name)

        def _update_config_list(self, *args):
            self.idle = 0
            return super()._update_config_list(*args)
    p = Counted(fresh(), [{'sparsity': .9, 'op_types': ['Conv2d']}], lambda _: None, Evaluator(x, y), sparsity_per_iteration=.1, experiment_data_dir=folder)
    try: said = p.compress() and None
    except TimeoutError: said = f'never ends: its steps are halved to {p._sparsity_per_iteration:.1e}, what they take is not'
    yield shown('NetAdapt, .9 asked in steps of .1', said)
    p = SimulatedAnnealingPruner(fresh(), [{'sparsity': .5, 'op_types': ['Conv2d']}], Evaluator(x, y), experiment_data_dir=folder)
    p.compress()
    weights, masks = exported(p)
    same = all(torch.equal(weights[k], v) for k, v in model.state_dict().items())
    yield shown('annealing, .5 asked', 'exports masks of ones and unpruned weights' if same and all(bool(m['weight'].all()) for m in masks.values()) else None)


def defects18(a, name, folder, model, x, y):
    """Ours: search_test.cpp and ddpg_test.cpp."""
    if name != 'naive': return
    os.environ['NNI'] = '1.8'
    from nni_later import nni  # noqa: F401
    from nni.compression.torch import AMCPruner, SensitivityPruner
    m = MODELS[name](); m.load_state_dict(model.state_dict())
    evaluate = Evaluator(x, y)
    p = SensitivityPruner(m, [{'sparsity': .5, 'op_types': ['Conv2d']}], lambda: evaluate(m), sparsity_per_iter=.2, checkpoint_dir=os.path.join(folder, 'rounds'))
    p.compress()
    yield shown('sensitivity, .5 asked', f'ends at {p.current_sparsity():.3f}' if p.current_sparsity() > .51 else None)

    def amc(kernel):
        torch.manual_seed(0)
        widths = (3, 16, 24, 32, 40)
        net = torch.nn.Sequential(*[l for i in range(4) for l in (torch.nn.Conv2d(widths[i], widths[i + 1], kernel, padding=kernel // 2, bias=False), torch.nn.ReLU())],
                                  torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(40, 10))
        pictures, labels = images('vgg16', a.data, 200)
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(pictures, labels), batch_size=50)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            p = AMCPruner(net, [{'op_types': ['Conv2d']}], lambda _, n: 100 * (n(pictures).argmax(1) == labels).float().mean().item(), loader, suffix='amc',
                          dataset='cifar10', flops_ratio=.5, train_episode=12, warmup=4, output_dir=folder, n_calibration_batches=2)
            p.train(12, p.agent, p.env, p.output_dir)
        return max(map(float, re.findall(r'ratio: ([0-9.]+)', out.getvalue())))
    most = amc(1)
    yield shown('AMC, .5 of the FLOPs asked', f'tries {most}: it rounds channels after the wall' if most > .5 else None)
    try: said = amc(3) and None
    except NotImplementedError as e: said = str(e)
    yield shown('AMC, 3x3', said)


def part(a):
    """One model and one search, in a process of its own: NNI 1.7 and 1.8 do not mix."""
    global SEED
    name, search, seed = a.part.split(':')
    SEED = int(seed)
    sys.path.insert(0, a.nni17)
    x, y = images(name, a.data, 1000)
    train = slice(0, 1000 - a.images)
    model = trained(name, x[train], y[train], a.steps if name != 'vgg16' else a.steps // 2)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(model.state_dict(), os.path.join(folder, 'in.pth'))
        for case, candidates, why in globals()[search](a, name, folder, model, x[1000 - a.images:], y[1000 - a.images:]):
            print('RESULT ' + json.dumps({'model': name, 'search': search, 'case': case, 'candidates': candidates, 'differs': why}), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--model-prune', required=True); p.add_argument('--data', required=True); p.add_argument('--nni17', required=True)
    p.add_argument('--models', default='lenet,naive,vgg16'); p.add_argument('--searches', default='annealing,netadapt,autocompress,sensitivity,defects17,defects18')
    p.add_argument('--images', type=int, default=200); p.add_argument('--steps', type=int, default=100); p.add_argument('--out'); p.add_argument('--part')
    p.add_argument('--seeds', default='3', help='of the searches and of the weights')
    a = p.parse_args()
    if a.part: return part(a)
    results = []
    for name, search, seed in itertools.product(a.models.split(','), a.searches.split(','), a.seeds.split(',')):
        run = subprocess.run([sys.executable, os.path.abspath(__file__), *sys.argv[1:], '--part', f'{name}:{search}:{seed}'], capture_output=True, text=True)
        got = [json.loads(line[7:]) for line in run.stdout.splitlines() if line.startswith('RESULT ')]
        if run.returncode: got.append({'model': name, 'search': search, 'case': 'run', 'candidates': 0, 'differs': run.stderr[-1500:]})
        for r in got:
            print(f'{r["model"]:6} {r["search"]:12} {r["case"]:40} {r["candidates"]:4} candidates  ' + (('equal' if r['candidates'] else 'shown') if r['differs'] is None else f'DIFFERS: {r["differs"]}'), flush=True)
        results += got
    if a.out:
        with open(a.out, 'w') as f: json.dump(results, f, indent=1)
    wrong = sum(r['differs'] is not None for r in results)
    print(f'{len(results) - wrong} of {len(results)} cases equal, {sum(r["candidates"] for r in results)} candidates')
    sys.exit(1 if wrong else 0)


if __name__ == '__main__': main()
