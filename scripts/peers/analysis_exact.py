"""Our analyses against those of NNI 1.7, the program itself: dependency sets, repaired masks, sensitivities.

  analysis_exact.py --build BUILD/examples [--models resnet20,mobilenetv2,vgg16,lenet] [--seeds 3] [--data DIR] [--cifar DIR]
                    [--dependency-aware PYTHON]   # an environment whose nni19 folder (beside its bin) holds NNI 1.9

Needs a Python with NNI 1.7, PyTorch and NumPy. For random weights of every seed and sparsities of .3, .5 and .8:
 - sets: NNI's ChannelDependency and GroupDependency, as `sensitivity` writes them;
 - repair: L1FilterPruner's masks through NNI's fix_mask_conflict and through `model_speedup --fix-mask-conflict`, every
   element of every layer (biases aside: NNI 1.7 forgets them, ours follow their filters, which is checked instead);
 - sensitivity: SensitivityAnalysis of LeNet with accuracy on MNIST or on noise, against `sensitivity`'s CSV file, every
   number, with and without early stopping (--data: MNIST's folder);
 - dependency-aware: NNI 1.9's pruners with dependency_aware=True (L1, L2, FPGM; with --cifar, CIFAR-10's folder, Taylor,
   APoZ and mean activation, too) against what `model_prune` does anyway. Compared are the layers that no grouped
   convolution ties: for those NNI's masks contradict each other. Where layers differ, what we prune must be right by
   NNI's own scores: up to 1e-5, or to twice what PyTorch's own two memory layouts differ by. Then either channels are
   that near to the cut, or there is a tie at it: NNI masks all channels at or below the cut before it picks, from then
   on equal, as many as it was asked for. Said for every layer.
Exit code 1 if anything differs.
"""
import argparse, collections, collections.abc, csv, json, logging, os, subprocess, sys, tempfile, types
import numpy as np, torch
logging.disable(logging.CRITICAL)
collections.Iterable = collections.abc.Iterable  # NNI's dependencies expect it there
for unused in ('netifaces', 'hyperopt', 'sklearn', 'PythonWebHDFS', 'sklearn.linear_model'):
    sys.modules.setdefault(unused, types.ModuleType(unused))
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
from models import INPUT, MODELS

failures = []


def check(what, same, detail=''):
    print(f'{"ok   " if same else "WRONG"} {what} {detail}', flush=True)
    if not same:
        failures.append(f'{what} {detail}')


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f'{" ".join(command)}\nended with {done.returncode}: {done.stderr or done.stdout}')
    return done.stdout


def weights_of(name, seed):
    torch.manual_seed(seed)
    return MODELS[name]()


def config(sparsity):
    return [{'sparsity': sparsity, 'op_types': ['Conv2d']}]


def filters(mask):
    return int((mask.flatten(1).sum(1) == 0).sum())


def rows(path):
    with open(path) as f:
        return list(csv.reader(f))


def sets(a, name, model, folder):
    from nni.compression.torch.utils.shape_dependency import ChannelDependency, GroupDependency
    dummy = torch.zeros(INPUT[name])
    model.eval()
    weights = os.path.join(folder, 'w.pth')
    torch.save(model.state_dict(), weights)
    files = [os.path.join(folder, f) for f in ('sets.csv', 'groups.csv')]
    run([f'{a.build}/sensitivity', '--weights', weights, '--model', name, '--analysis', 'off', '--channel-dependency',
         files[0], '--group-dependency', files[1], '--out', os.path.join(folder, 'sets'), '--force'])
    theirs = {frozenset(s) for s in ChannelDependency(model, dummy).dependency_sets}
    ours = {frozenset(row[1:]) for row in rows(files[0])[1:]}
    check(f'{name}: channel dependency', theirs == ours, f'{len(ours)} sets')
    theirs = {k: str(v) for k, v in GroupDependency(model, dummy).dependency.items()}
    ours = {row[0]: row[1] for row in rows(files[1])[1:]}
    check(f'{name}: group dependency', theirs == ours, f'{len(ours)} layers')


def repair(a, name, seed, sparsity, folder):
    import nni.compression.torch as nni
    from nni.compression.torch.utils.mask_conflict import fix_mask_conflict
    model = weights_of(name, seed)
    weights, masks = os.path.join(folder, 'w.pth'), os.path.join(folder, 'm.pth')
    torch.save(model.state_dict(), weights)
    pruner = nni.L1FilterPruner(weights_of(name, seed), config(sparsity))
    pruner.compress()
    pruner.export_model(os.path.join(folder, 'pruned.pth'), masks)
    before = torch.load(masks)
    theirs = fix_mask_conflict(torch.load(masks), model.eval(), torch.zeros(INPUT[name]))
    out = os.path.join(folder, 'out')
    run([f'{a.build}/model_speedup', '--weights', weights, '--model', name, '--masks', masks, '--fix-mask-conflict',
         '--repeats', '1', '--batch-sizes', '1', '--out', out, '--force'])
    ours = torch.load(os.path.join(out, 'mask.pth'))
    wrong = [layer for layer in theirs if not torch.equal(theirs[layer]['weight'], ours[layer]['weight'])]
    biases = [layer for layer, m in ours.items() if m['bias'] is not None and
              not torch.equal(m['bias'], (m['weight'].flatten(1).sum(1) > 0).float())]
    count = [sum(filters(m['weight']) for m in masks.values()) for masks in (before, theirs, ours)]
    check(f'{name} seed {seed} sparsity {sparsity}: repair', not wrong and not biases and set(theirs) == set(ours),
          f'{count[0]} -> {count[1]} (NNI), {count[2]} (ours) masked filters{" " + str(wrong + biases) if wrong or biases else ""}')


def sensitivity(a, folder):
    from nni.compression.torch.utils.sensitivity_analysis import SensitivityAnalysis
    model = weights_of('lenet', 1).eval()
    weights = os.path.join(folder, 'w.pth')
    dataset, n = 'synthetic', 300
    if a.data:
        dataset = 'mnist'
        torch.save(model.state_dict(), weights)
        out = os.path.join(folder, 'trained')
        run([f'{a.build}/train', '--model', 'lenet', '--weights', weights, '--dataset', 'mnist', '--data', a.data, '--epochs', '1',
             '--images', '4000', '--test-images', '500', '--out', out])
        model.load_state_dict(torch.load(os.path.join(out, 'model.pth')))
    torch.save(model.state_dict(), weights)
    common = ['--weights', weights, '--model', 'lenet', '--dataset', dataset, *(['--data', a.data] if a.data else []), '--split',
              'test', '--test-images', str(n)]
    # The images themselves come from our own reader, through evaluate's logits of a network that hands them on: too
    # far. Accuracy is asked of our evaluate instead, so that both analyses see the same judge.
    calls = 0

    def judge():
        nonlocal calls
        calls += 1
        plain = {k.replace('.module.', '.'): v for k, v in model.state_dict().items() if not k.endswith('_mask')}
        for layer, m in model.named_modules():
            if hasattr(m, 'weight_mask'):
                plain[layer + '.weight'] = m.module.weight.data * m.weight_mask
                plain[layer + '.bias'] = m.module.bias.data * m.bias_mask
        path = os.path.join(folder, 'judged.pth')
        torch.save(plain, path)
        command = [f'{a.build}/evaluate', '--weights', path, '--model', 'lenet', '--dataset', dataset, '--test-images', str(n), '--json']
        return json.loads(run(command + (['--data', a.data] if a.data else [])))['test']['accuracy']

    for how, stop in (('l1', None), ('l2', None), ('fine-grained', None), ('l1', ('dropped', .05)), ('l1', ('minimize', .3))):
        analysis = SensitivityAnalysis(model, judge, prune_type=how, early_stop_mode=stop and stop[0],
                                       early_stop_value=stop and stop[1])
        if how == 'fine-grained':  # NNI's config names Conv2d, which its LevelPruner takes
            pass
        analysis.analysis()
        path = os.path.join(folder, 'nni.csv')
        analysis.export(path)
        out = os.path.join(folder, 'sensitivity')
        run([f'{a.build}/sensitivity', *common, '--prune-type', how, '--layers', 'conv1,conv2',
             *(['--early-stop', f'{stop[0]}:{stop[1]}'] if stop else []), '--out', out, '--force'])
        theirs, ours = rows(path), rows(os.path.join(out, 'sensitivity.csv'))
        same = theirs[0] == ours[0] and [r[0] for r in theirs] == [r[0] for r in ours] and all(
            [float(x) for x in t[1:]] == [float(x) for x in o[1:]] for t, o in zip(theirs[1:], ours[1:]))
        check(f'lenet on {dataset}: sensitivity {how}{" " + str(stop) if stop else ""}', same,
              f'{sum(len(r) - 1 for r in ours[1:])} numbers' if same else f'{theirs} {ours}')


LATER = '''
import sys, os, collections, collections.abc, logging, types
sys.path.insert(0, os.path.join(sys.prefix, 'nni19')); sys.path.append(sys.argv[1])
logging.disable(logging.CRITICAL); collections.Iterable = collections.abc.Iterable
for unused in ('netifaces', 'hyperopt', 'sklearn', 'PythonWebHDFS', 'sklearn.linear_model'): sys.modules.setdefault(unused, types.ModuleType(unused))
import numpy as np
np.float, np.bool, np.int = float, bool, int
import nni.compression.torch as nni, torch, nni_graph
from models import INPUT, MODELS
name, sparsity, weights, out, kind, images = sys.argv[2], float(sys.argv[3]), sys.argv[4], sys.argv[5], sys.argv[6], sys.argv[7]
data = torch.load(images) if images else []

def pruned(layout):
    model = MODELS[name](); model.load_state_dict(torch.load(weights)); model.eval()
    more = {'statistics_batch_num': len(data) - 1, 'optimizer': torch.optim.SGD(model.parameters(), lr=0.)} if data else {}
    pruner = getattr(nni, kind)(model, [{'sparsity': sparsity, 'op_types': ['Conv2d']}], dependency_aware=True, dummy_input=torch.zeros(INPUT[name]), **more)
    pruner.compress()
    model.train()
    for m in model.modules():
        if 'Dropout' in type(m).__name__: m.eval()
    for x, y in data[:len(data) - (kind[0] != 'T')]:  # Taylor's masks come a step late
        more['optimizer'].zero_grad(); torch.nn.functional.cross_entropy(model(x.contiguous(memory_format=layout)), y).backward(); more['optimizer'].step()
    return pruner, {w.name: pruner.masker.get_channel_sum(w, i).detach() for i, w in enumerate(pruner.get_modules_wrapper())}

pruner, scores = pruned(torch.contiguous_format)
again = pruned(torch.channels_last)[1] if data else scores
torch.save({'scores': scores, 'again': again, 'sets': pruner.channel_depen}, out + '.s')
pruner.export_model(out + '.w', out)
'''


CLASSES = {'l1': 'L1FilterPruner', 'l2': 'L2FilterPruner', 'fpgm': 'FPGMPruner', 'taylor': 'TaylorFOWeightFilterPruner',
           'apoz': 'ActivationAPoZRankFilterPruner', 'mean': 'ActivationMeanRankFilterPruner'}


def excused(known, layer, ours):
    """By NNI's own scores, is what we prune right, as far as arithmetic is exact? None: no; else why NNI prunes others."""
    names = [n for n in known['sets'][layer] if n in known['scores']]
    scores, again = (sum(known[which][n].double() for n in names) for which in ('scores', 'again'))
    allowed = max(1e-5, 2 * ((scores - again).abs() / scores.abs().clamp_min(1e-30)).max().item())
    gone = (ours.flatten(1).sum(1) == 0)
    cut = scores.sort().values[int(gone.sum()) - 1]
    if (scores[gone] > cut + allowed * cut.abs()).any() or (scores[~gone] < cut - allowed * cut.abs()).any():
        return None
    return 'a tie' if (scores <= cut).sum() > gone.sum() else 'near the cut'


def dependency_aware(a, name, seed, sparsity, kind, folder):
    model = weights_of(name, seed)
    weights, masks, out = (os.path.join(folder, f) for f in ('w.pth', 'm19.pth', 'out19'))
    torch.save(model.state_dict(), weights)
    images, looking = '', []
    if kind in ('taylor', 'apoz', 'mean'):
        from pruners_exact import BATCH, batches
        images, n = os.path.join(folder, 'images.pth'), 2
        torch.save(batches('vgg16', a.cifar, n + 1), images)
        looking = ['--dataset', 'cifar10', '--data', a.cifar, '--augment', 'none', '--shuffle', 'off', '--batch-size', str(BATCH), '--dropout',
                   'off', '--statistics-batches', str(n), '--images', str(n * BATCH), '--test-images', '32']
    run([a.dependency_aware, '-c', LATER, here, name, str(sparsity), weights, masks, CLASSES[kind], images])
    run([f'{a.build}/model_prune', '--weights', weights, '--model', name, '--pruner', kind, '--sparsity', str(sparsity), '--epochs',
         '0', '--finetune-epochs', '0', *looking, '--out', out, '--force'])
    theirs, ours = torch.load(masks), torch.load(os.path.join(out, 'mask.pth'))
    grouped, last = set(), None
    for layer, m in model.named_modules():
        if isinstance(m, torch.nn.Conv2d):
            if m.groups > 1:
                grouped |= {layer, last}
            last = layer
    layers = [layer for layer in theirs if layer not in grouped]
    different = [layer for layer in layers if not torch.equal(theirs[layer]['weight'], ours[layer]['weight'])]
    known = torch.load(masks + '.s')
    why = {layer: excused(known, layer, ours[layer]['weight']) for layer in different}
    wrong = [layer for layer, reason in why.items() if not reason]
    reasons = ', '.join(f'{layer}: {reason}' for layer, reason in why.items() if reason)
    check(f'{name} seed {seed} {kind} sparsity {sparsity}: dependency-aware', not wrong,
          f'{len(layers)} of {len(theirs)} layers {wrong or ""}{" excused: " + reasons if reasons else ""}')


def defect(a, folder):
    """Where int(n·s) is 0, NNI 1.9's dependency-aware mode reads a mask's names as layers'. Ours masks nothing."""
    weights, out = os.path.join(folder, 'w.pth'), os.path.join(folder, 'none')
    torch.save(weights_of('resnet20', 0).state_dict(), weights)
    done = subprocess.run([a.dependency_aware, '-c', LATER, here, 'resnet20', '0.01', weights, os.path.join(folder, 'm19.pth'), 'L1FilterPruner', ''],
                          capture_output=True, text=True)
    check('NNI fails: dependency-aware, 0.01 asked', done.returncode != 0, done.stderr.strip().splitlines()[-1] if done.stderr else '')
    run([f'{a.build}/model_prune', '--weights', weights, '--model', 'resnet20', '--pruner', 'l1', '--sparsity', '0.01', '--epochs', '0',
         '--finetune-epochs', '0', '--out', out, '--force'])
    check('ours: 0.01 asked', all(bool((m['weight'] == 1).all()) for m in torch.load(os.path.join(out, 'mask.pth')).values()), 'nothing is masked')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--build', required=True)
    p.add_argument('--models', default='resnet20,mobilenetv2,vgg16,lenet')
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--data')
    p.add_argument('--cifar')
    p.add_argument('--dependency-aware', metavar='PYTHON')
    p.add_argument('--only', choices=('sets', 'repair', 'sensitivity', 'dependency-aware'))
    a = p.parse_args()
    wanted = lambda what: a.only in (None, what)
    with tempfile.TemporaryDirectory() as folder:
        if a.dependency_aware and wanted('dependency-aware'):
            defect(a, folder)
            for name in ('resnet20', 'mobilenetv2'):
                for seed in range(a.seeds):
                    for kind, sparsity in (('l1', .3), ('l1', .5), ('l2', .8), ('fpgm', .5), ('taylor', .5), ('apoz', .4), ('mean', .3)):
                        if kind in ('l1', 'l2', 'fpgm') or a.cifar: dependency_aware(a, name, seed, sparsity, kind, folder)
        if a.only == 'dependency-aware':
            sys.exit(bool(failures))
        import nni.compression.torch, nni_graph  # noqa: F401
        for name in a.models.split(','):
            if wanted('sets'):
                sets(a, name, weights_of(name, 0), folder)
            for seed in range(a.seeds if wanted('repair') else 0):
                for sparsity in (.3, .5, .8):
                    repair(a, name, seed, sparsity, folder)
        if wanted('sensitivity'):
            sensitivity(a, folder)
    print(f'{len(failures)} wrong')
    sys.exit(bool(failures))


if __name__ == '__main__':
    main()
