"""Our masks against those of NNI 1.7, the program itself, element for element.

  mask_exact.py --model-prune BUILD/examples/model_prune [--models vgg16,vgg19,lenet,naive] [--data DIR]
                [--weights MODEL=FILE.pth ...] [--pruners level,l1,l2,slim] [--limit N] [--out FILE.json]

Needs a Python with NNI 1.7, PyTorch and NumPy. Every model is pruned with random weights and with trained ones: those
given by --weights (a state dict), or what some steps of SGD make of it here, on MNIST or CIFAR-10 under --data (on
noise around one template per class without it). Each pair of weights and config list goes through NNI's pruner and
through model_prune; the masks of all layers that NNI masks must be equal. NNI 1.7's schemas refuse the key `exclude`,
which its selection understands: there, its schema check is skipped.

Only two differences are excused, and each is listed: a layer that NNI empties (we keep its strongest channel or weight),
and filters whose L1 or L2 norm lies within 1e-6, relative, of the threshold, where float32 and float64 sums may part.
"""
import argparse, collections, collections.abc, gzip, json, logging, os, subprocess, sys, tempfile, types
import numpy as np, torch, torch.nn.functional as F
logging.disable(logging.CRITICAL)
collections.Iterable = collections.abc.Iterable  # NNI 1.7's dependencies expect it there
for unused in ('netifaces', 'hyperopt', 'sklearn', 'PythonWebHDFS'):
    sys.modules.setdefault(unused, types.ModuleType(unused))
import nni.compression.torch as nni
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from models import MODELS

PRUNERS = {'level': nni.LevelPruner, 'slim': nni.SlimPruner, 'l1': nni.L1FilterPruner, 'l2': nni.L2FilterPruner}
TINY = 1e-6


def images(model, data):
    """(images, labels): the first ones of MNIST or CIFAR-10, or noise around ten templates."""
    mnist = model in ('lenet', 'naive')
    shape = (1, 28, 28) if mnist else (3, 32, 32)
    if data and mnist:
        def read(name, skip):
            path = next(p for p in (os.path.join(data, d, name + e) for d in ('', 'mnist') for e in ('', '.gz')) if os.path.exists(p))
            with (gzip.open if path.endswith('.gz') else open)(path, 'rb') as f:
                return np.frombuffer(f.read(), np.uint8)[skip:]
        x, y = read('train-images-idx3-ubyte', 16)[:8192 * 784], read('train-labels-idx1-ubyte', 8)[:8192]
    elif data:
        path = next(p for p in (os.path.join(data, d, 'data_batch_1.bin') for d in ('', 'cifar-10-batches-bin')) if os.path.exists(p))
        record = np.fromfile(path, np.uint8).reshape(-1, 3073)
        x, y = record[:, 1:], record[:, 0]
    else:
        g = torch.Generator().manual_seed(0)
        y = torch.randint(0, 10, (4096,), generator=g)
        return torch.randn(10, *shape, generator=g)[y] + .7 * torch.randn(4096, *shape, generator=g), y
    x = torch.from_numpy(x.astype(np.float32)).reshape(-1, *shape) / 255
    return (x - .45) / .25, torch.from_numpy(y.astype(np.int64))


def train(model, name, data, steps, batch=32):
    x, y = images(name, data)
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), .05 if name != 'lenet' else .02, momentum=.9, weight_decay=1e-4)
    model.train()
    for step in range(steps):
        i = torch.arange(step * batch, (step + 1) * batch) % len(x)
        loss = F.cross_entropy(model(x[i]), y[i])
        optimizer.zero_grad()
        loss.backward()
        for m in model.modules():  # slimming's penalty
            if isinstance(m, torch.nn.BatchNorm2d):
                m.weight.grad.add_(1e-3 * m.weight.data.sign())
        optimizer.step()
    return loss.item()


def configs(model, pruner):
    convs = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Conv2d)]
    linears = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    norms = [n for n, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]
    if pruner == 'slim':
        t = ['BatchNorm2d']
        return [[{'sparsity': s, 'op_types': t}] for s in (.3, .7, .95)] + [
            [{'sparsity': .5, 'op_types': t, 'op_names': norms[::2]}],
            [{'sparsity': .6, 'op_types': t}, {'op_names': norms[:1], 'exclude': True}]] if norms else []
    t = ['default'] if pruner == 'level' else ['Conv2d']
    later = linears if pruner == 'level' else convs[1:]
    return [[{'sparsity': s, 'op_types': t}] for s in (.1, .5, .9)] + [
        [{'sparsity': .5, 'op_types': t, 'op_names': [convs[0], convs[-1]]}],
        [{'sparsity': .3, 'op_types': t}, {'sparsity': .75, 'op_types': t, 'op_names': later[:2]}],
        [{'sparsity': .6, 'op_types': t}, {'op_names': convs[:1], 'exclude': True}],
        [{'op_names': convs[:1], 'exclude': True}, {'sparsity': .45, 'op_types': ['Conv2d']}]]


def theirs(name, weights, pruner, config, folder):
    model = MODELS[name]()
    model.load_state_dict(weights)
    cls = PRUNERS[pruner]
    if any('exclude' in entry for entry in config):
        cls = type(cls.__name__, (cls,), {'validate_config': lambda self, model, config_list: None})
    p = cls(model, config)
    p.compress()
    p.export_model(os.path.join(folder, 'nni.pth'), os.path.join(folder, 'nni_mask.pth'))
    return torch.load(os.path.join(folder, 'nni_mask.pth'))


def ours(binary, name, weights, pruner, config, folder):
    torch.save(weights, os.path.join(folder, 'in.pth'))
    with open(os.path.join(folder, 'config.json'), 'w') as f:
        json.dump(config, f)
    out = os.path.join(folder, 'out')
    command = [binary, '--model', name, '--weights', os.path.join(folder, 'in.pth'), '--pruner', pruner, '--config',
               os.path.join(folder, 'config.json'), '--epochs', '0', '--finetune-epochs', '0', '--out', out, '--force']
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f'{" ".join(command)}\nended with {run.returncode}: {run.stderr or run.stdout}')
    return torch.load(os.path.join(out, 'mask.pth'))


def compare(layer, a, b, weight, pruner, sparsity):
    """None, or what differs: ('excused' | 'WRONG', text). a is NNI's {weight, bias}, b ours."""
    same = all((a[k] is None) == (b.get(k) is None) and (a[k] is None or torch.equal(a[k].float(), b[k])) for k in ('weight', 'bias'))
    if same:
        return None
    if a['weight'].sum() == 0:
        kept = b['weight'].reshape(len(b['weight']), -1)
        kept = int(kept.sum()) if pruner == 'level' else int(kept[:, 0].sum())
        return 'excused' if kept == 1 else 'WRONG', f'{layer}: NNI empties it, we keep {kept}'
    if pruner in ('l1', 'l2'):
        w = weight.double().reshape(len(weight), -1)
        norm = w.abs().sum(1) if pruner == 'l1' else w.pow(2).sum(1).sqrt()
        threshold = norm.sort().values[int(len(norm) * sparsity) - 1]
        apart = (a['weight'] != b['weight']).reshape(len(weight), -1).any(1).nonzero().flatten()
        far = [(i, abs(norm[i] / threshold - 1).item()) for i in apart.tolist()]
        near = all(d <= TINY for _, d in far)
        return 'excused' if near else 'WRONG', f'{layer}: filters {far} (relative distance to the threshold)'
    return 'WRONG', f'{layer}: {(a["weight"] != b["weight"]).sum().item()} elements differ'


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--model-prune', required=True)
    p.add_argument('--models', default='vgg16,vgg19,lenet,naive')
    p.add_argument('--pruners', default='level,l1,l2,slim')
    p.add_argument('--weights', action='append', default=[], metavar='MODEL=FILE')
    p.add_argument('--data')
    p.add_argument('--steps', type=int, default=200, help='of training where no weights are given (VGG: a quarter)')
    p.add_argument('--limit', type=int, help='at most so many config lists per pruner, for a quick look')
    p.add_argument('--out')
    a = p.parse_args()
    given = dict(w.split('=', 1) for w in a.weights)
    cases = layers = elements = 0
    excused, wrong, rows = [], [], []
    for name in a.models.split(','):
        torch.manual_seed(7)
        model = MODELS[name]()
        kinds = {'random': {k: v.clone() for k, v in model.state_dict().items()}}
        if name in given:
            loaded = torch.load(given[name])
            kinds['trained'] = {k: v.clone() for k, v in loaded.get('model', loaded).items()}
        else:
            loss = train(model, name, a.data, a.steps // (4 if name.startswith('vgg') else 1))
            print(f'{name}: trained here, last loss {loss:.3f}', flush=True)
            kinds['trained'] = {k: v.clone() for k, v in model.state_dict().items()}
        for kind, state in kinds.items():
            for pruner in a.pruners.split(','):
                weights = dict(state)
                if pruner == 'slim' and kind == 'random':  # gammas from U(0,1)
                    for layer, m in model.named_modules():
                        if isinstance(m, torch.nn.BatchNorm2d):
                            weights[layer + '.weight'] = torch.rand(m.num_features)
                for config in configs(model, pruner)[:a.limit]:
                    with tempfile.TemporaryDirectory() as folder:
                        nni_masks = theirs(name, weights, pruner, config, folder)
                        our_masks = ours(a.model_prune, name, weights, pruner, config, folder)
                    where = f'{name} {kind} {pruner} {json.dumps(config)}'
                    cases += 1
                    for layer, mask in nni_masks.items():
                        layers += 1
                        elements += mask['weight'].numel()
                        winner = [e for e in config if (not e.get('op_names') or layer in e['op_names'])][-1]
                        found = compare(layer, mask, our_masks.get(layer, {'weight': torch.zeros(1)}), weights[layer + '.weight'],
                                        pruner, winner.get('sparsity'))
                        if found:
                            (excused if found[0] == 'excused' else wrong).append(f'{where}: {found[1]}')
                    if pruner == 'level' and set(our_masks) != set(nni_masks):
                        wrong.append(f'{where}: we mask {sorted(set(our_masks) ^ set(nni_masks))} otherwise')
                    rows.append({'case': where, 'layers': len(nni_masks)})
                print(f'{name} {kind} {pruner}: {cases} cases, {layers} layers so far, {len(wrong)} wrong, '
                      f'{len(excused)} excused', flush=True)
    for line in excused:
        print('excused:', line)
    for line in wrong:
        print('WRONG:', line)
    print(f'{cases} cases, {layers} layer masks, {elements} elements compared with NNI 1.7: '
          f'{len(wrong)} layers wrong, {len(excused)} excused')
    if a.out:
        with open(a.out, 'w') as f:
            json.dump({'cases': rows, 'layers': layers, 'elements': elements, 'excused': excused, 'wrong': wrong}, f, indent=1)
    sys.exit(bool(wrong))


if __name__ == '__main__':
    main()
