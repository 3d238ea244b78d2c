"""Our pruners that gather evidence or follow a schedule against those of NNI 1.7, the program itself.

  pruners_exact.py --model-prune BUILD/examples/model_prune --data DIR [--models lenet,naive,vgg16] [--seeds 0,1,2]
                   [--rows magnitude,fpgm,taylor,apoz,mean,agp,lottery,admm,defects] [--limit N] [--out FILE.json]

Needs a Python with NNI 1.7, PyTorch and NumPy, and MNIST and CIFAR-10 under DIR. A row is a pruner. Every model is pruned
with random weights and with trained ones, for several seeds and config lists; what NNI decides must be what we decide,
element for element. Where NNI looks at images, both look at the first batches of the training files, in their order.
Where it follows training, it is given the weights that our run had at that moment. What NNI does wrong is repaired in a
subclass (a class of this file says so), and the row "defects" shows it failing as it is.

Excused, listed and counted: a layer that NNI empties; ties at the cut; scores within 1e-6, relative, of it - for taylor,
apoz and mean within twice the distance that PyTorch's own two memory layouts have from each other, which is printed.
`magnitude` is mask_exact.py: level, slim, l1, l2.
"""
import argparse, contextlib, io, json, os, subprocess, sys, tempfile
import numpy as np, torch, torch.nn.functional as F
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import mask_exact
from mask_exact import MODELS, TINY, configs, images, nni, train
from nni.compression.torch.pruning import agp as nni_agp, structured_pruning as nni_masks

BATCH = 32
NORMAL = {1: ([.1307], [.3081]), 3: ([.4914, .4822, .4465], [.2023, .1994, .2010])}


class Tally:
    def __init__(self): self.cases = self.layers = self.elements = 0; self.excused, self.wrong, self.tolerance = [], [], {}


def batches(name, data, n):
    """The first n batches of the training files, as model_prune normalises them."""
    x, y = images(name, data)
    x = (x * .25 + .45)  # mask_exact's own constants, undone
    mean, std = (torch.tensor(v).reshape(1, -1, 1, 1) for v in NORMAL[x.shape[1]])
    pixels = (x * 255).round()
    x = (pixels / 255 - mean) / std
    return [(x[i * BATCH:(i + 1) * BATCH], y[i * BATCH:(i + 1) * BATCH]) for i in range(n)]


def quiet(model):
    """In training mode, dropout off."""
    model.train()
    for m in model.modules():
        if 'Dropout' in type(m).__name__: m.eval()
    return model


def loss_of(name): return F.nll_loss if name == 'lenet' else F.cross_entropy


def run_ours(a, name, weights, config, folder, *options):
    torch.save(weights, os.path.join(folder, 'in.pth'))
    with open(os.path.join(folder, 'config.json'), 'w') as f: json.dump(config, f)
    out = os.path.join(folder, 'out')
    dataset = 'mnist' if name in ('lenet', 'naive') else 'cifar10'
    root = next(p for p in (os.path.join(a.data, d) for d in ('mnist', 'cifar-10-batches-bin', '')) if os.path.isdir(p) and (dataset == 'mnist') == any('ubyte' in f for f in os.listdir(p)))
    command = [a.model_prune, '--model', name, '--weights', os.path.join(folder, 'in.pth'), '--config', os.path.join(folder, 'config.json'),
               '--dataset', dataset, '--data', root, '--augment', 'none', '--shuffle', 'off', '--batch-size', str(BATCH), '--epochs', '0', '--dropout', 'off',
               '--test-images', '32', '--out', out, '--force', *options]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode: sys.exit(f'{" ".join(command)}\nended with {run.returncode}: {run.stderr or run.stdout}')
    return out


def excused_classes(base, config):
    """NNI 1.7's schemas refuse `exclude`, which its selection understands."""
    if any('exclude' in e for e in config): return type(base.__name__, (base,), {'validate_config': lambda self, model, config_list: None})
    return base


def compare(t, where, layer, theirs, ours, scores, k, tolerance=TINY, keys=('weight', 'bias')):
    """theirs, ours: {weight, bias}. scores: what NNI ranks by, lowest first, k of them go; None: nothing is excused."""
    t.layers += 1; t.elements += theirs['weight'].numel()
    same = all((theirs[key] is None) == (ours.get(key) is None) and (theirs[key] is None or torch.equal(theirs[key].float(), ours[key])) for key in keys)
    if same: return
    if theirs['weight'].sum() == 0:
        kept = int((ours['weight'].reshape(len(ours['weight']), -1).sum(1) > 0).sum())
        (t.excused if kept == 1 else t.wrong).append(f'{where} {layer}: NNI empties it, we keep {kept}'); return
    if scores is None or k < 1:
        t.wrong.append(f'{where} {layer}: {(theirs["weight"] != ours["weight"]).sum().item()} elements differ'); return
    s = scores.double()
    cut = s.sort().values[k - 1]
    apart = (theirs['weight'] != ours['weight']).reshape(len(s), -1).any(1).nonzero().flatten()
    far = [(i, (abs(s[i] - cut) / max(abs(cut), 1e-30)).item()) for i in apart.tolist()]
    ok = all(d <= tolerance for _, d in far)
    (t.excused if ok else t.wrong).append(f'{where} {layer}: filters {far} (relative distance to the cut, allowed {tolerance:.2g})')


def winner(config, layer): return [e for e in config if not e.get('op_names') or layer in e['op_names']][-1]


def wrappers(pruner): return {w.name: w for w in pruner.get_modules_wrapper()}


def masks_of(pruner):
    return {n: {'weight': w.weight_mask.clone(), 'bias': None if w.bias_mask is None else w.bias_mask.clone()} for n, w in wrappers(pruner).items()}


def build(name, weights):
    model = MODELS[name]()
    model.load_state_dict(weights)
    return model


# ---- rows: each is called with (args, tally, where, name, weights, seed)

def fpgm(a, t, where, name, weights, seed):
    for config in configs(MODELS[name](), 'fpgm')[:a.limit]:
        with tempfile.TemporaryDirectory() as folder:
            ours = torch.load(run_ours(a, name, weights, config, folder, '--pruner', 'FPGMPruner', '--finetune-epochs', '0') + '/mask.pth')
        pruner = excused_classes(nni.FPGMPruner, config)(build(name, weights), config)
        pruner.compress()
        t.cases += 1
        for layer, mask in masks_of(pruner).items():
            w = weights[layer + '.weight'].double().reshape(len(weights[layer + '.weight']), -1)
            distances = torch.cdist(w, w, compute_mode='donot_use_mm_for_euclid_dist').sum(1)
            compare(t, f'{where} {json.dumps(config)}', layer, mask, ours[layer], distances, int(len(w) * winner(config, layer)['sparsity']))


def statistics(pruner_name, n):
    """taylor, apoz, mean from n batches, in NNI's own steps with a learning rate of 0."""
    def row(a, t, where, name, weights, seed):
        cls = {'taylor': nni.TaylorFOWeightFilterPruner, 'apoz': nni.ActivationAPoZRankFilterPruner, 'mean': nni.ActivationMeanRankFilterPruner}[pruner_name]
        data = batches(name, a.data, n + 1)
        apart = layouts_apart(pruner_name, name, weights, data[:n])
        for config in configs(MODELS[name](), pruner_name)[:a.limit]:
            with tempfile.TemporaryDirectory() as folder:
                ours = torch.load(run_ours(a, name, weights, config, folder, '--pruner', cls.__name__, '--statistics-batches', str(n), '--images', str(n * BATCH), '--finetune-epochs', '0') + '/mask.pth')
            model = build(name, weights)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.)
            pruner = excused_classes(cls, config)(model, config, optimizer, statistics_batch_num=n)
            quiet(pruner.compress())
            for x, y in data[:n + (pruner_name == 'taylor')]:  # its mask comes a step late
                optimizer.zero_grad()
                loss_of(name)(model(x), y).backward()
                optimizer.step()
            t.cases += 1
            for i, (layer, mask) in enumerate(masks_of(pruner).items()):
                w = wrappers(pruner)[layer]
                if pruner_name == 'taylor': scores = w.contribution
                else:
                    kept = torch.cat(pruner.collected_activation[i])
                    scores = -(kept == 0).double().mean((0, 2, 3)) if pruner_name == 'apoz' else kept.double().mean((0, 2, 3))
                tolerance = max(TINY, 2 * apart[layer])
                t.tolerance[pruner_name] = max(t.tolerance.get(pruner_name, 0), apart[layer])
                compare(t, f'{where} {n} batches {json.dumps(config)}', layer, mask, ours[layer], scores,
                        int(len(scores) * winner(config, layer)['sparsity']), tolerance)
    return row


def layouts_apart(kind, name, weights, data):
    """By how much PyTorch's contiguous and channels-last runs differ in what is ranked, relative, by layer."""
    seen = []
    for layout in (torch.contiguous_format, torch.channels_last):
        model = quiet(build(name, weights)).to(memory_format=layout)
        sums, handles = {}, []
        for layer, m in model.named_modules():
            if isinstance(m, torch.nn.Conv2d) and kind != 'taylor':
                def look(module, i, o, layer=layer):
                    r = F.relu(o.detach()).double()
                    sums[layer] = sums.get(layer, 0) + ((r == 0).double() if kind == 'apoz' else r).mean((0, 2, 3))
                m.register_forward_hook(look)
        for x, y in data:
            model.zero_grad()
            loss_of(name)(model(x.contiguous(memory_format=layout)), y).backward()
            if kind == 'taylor':
                for layer, m in model.named_modules():
                    if isinstance(m, torch.nn.Conv2d): sums[layer] = sums.get(layer, 0) + (m.weight * m.weight.grad).detach().double().pow(2).reshape(len(m.weight), -1).sum(1)
        seen.append(sums)
    return {layer: ((seen[0][layer] - seen[1][layer]).abs() / seen[0][layer].abs().clamp_min(1e-30)).max().item() for layer in seen[0]}


class RepairedFPGM(nni_masks.FPGMPrunerMasker):
    """What is masked is among the k that are to be; NNI unites k new ones with it."""
    def _get_min_gm_kernel_idx(self, weight, n):
        distances = [(self._get_distance_sum(weight, i), i) for i in range(len(weight))]
        masked = [(-1., i) if weight[i].abs().sum() == 0 else d for i, d in zip(range(len(weight)), distances)]
        return [i for _, i in sorted(masked, key=lambda d: d[0])[:n]]


class RepairedSlim(nni_masks.SlimPrunerMasker):
    """The global threshold is taken anew at every update, from all |gamma * mask|; NNI's looks for the key `sparsity`."""
    def __init__(self, model, pruner, **kwargs): nni_masks.WeightMasker.__init__(self, model, pruner)

    def calc_mask(self, sparsity, wrapper, wrapper_idx=None):
        scales = torch.cat([(w.module.weight.data * w.weight_mask).abs() for w in self.pruner.get_modules_wrapper()])
        if wrapper_idx in (0, None) or not hasattr(self, 'now'): self.now = {}
        k = int(len(scales) * sparsity)
        if sparsity not in self.now:  # all layers of an update see the masks of the one before
            self.now[sparsity] = torch.topk(scales, k, largest=False)[0].max() if k else torch.tensor(-1.)
        self.global_threshold = self.now[sparsity]
        return super().calc_mask(sparsity, wrapper, wrapper_idx)


def agp_of(optimizer_model, config, algorithm):
    class AGP(getattr(nni_agp, 'AGPPruner', None) or nni_agp.AGP_Pruner):  # 1.8 renamed it
        def validate_config(self, model, config_list): pass
    masker = {'fpgm': RepairedFPGM, 'slim': RepairedSlim}.get(algorithm)
    if masker: nni_agp.MASKER_DICT['repaired'] = masker
    return AGP(optimizer_model, config, torch.optim.SGD(optimizer_model.parameters(), lr=0.), pruning_algorithm='repaired' if masker else algorithm)


def agp(a, t, where, name, weights, seed):
    """Masks at every update, with the weights that our fine-tuning has come to by then."""
    epochs = 6 if name != 'vgg16' else 4
    for algorithm in ('level', 'l1', 'l2', 'fpgm', 'slim'):
        kinds = {'level': ['default'], 'slim': ['BatchNorm2d']}.get(algorithm, ['Conv2d'])
        if algorithm == 'slim' and name == 'lenet': continue
        for base in ({'initial_sparsity': 0., 'final_sparsity': .8, 'start_epoch': 0, 'end_epoch': epochs - 1, 'frequency': 1},
                     {'initial_sparsity': .1, 'final_sparsity': .6, 'start_epoch': 1, 'end_epoch': epochs, 'frequency': 2})[:a.limit]:
            config = [{**base, 'op_types': kinds}]
            learning = ['--finetune-lr', '0.01', '--images', '256'] if name != 'vgg16' else ['--finetune-lr', '0', '--images', '32']
            run = lambda n, folder, *more: run_ours(a, name, weights, config, folder, '--pruner', algorithm, '--prune-schedule', 'agp',
                                                    '--finetune-epochs', str(n), '--weight-decay', '0', *learning, *more)
            model = build(name, weights)
            pruner = agp_of(model, config, algorithm)
            pruner.compress()
            with tempfile.TemporaryDirectory() as folder:
                out = run(epochs, folder, '--save-masks')
                saved = [torch.load(os.path.join(out, 'masks', f)) for f in sorted(os.listdir(os.path.join(out, 'masks')))]
            updates = [e for e in range(epochs) if e >= base['start_epoch'] and (e - base['start_epoch']) % base['frequency'] == 0 and e <= base['end_epoch']]
            t.cases += 1
            if len(saved) != len(updates): t.wrong.append(f'{where} agp {algorithm}: {len(saved)} updates, NNI makes {len(updates)}'); continue
            for e in range(epochs):
                if e > 0:
                    if name != 'vgg16':  # the weights as they were when epoch e began
                        with tempfile.TemporaryDirectory() as folder:
                            then = torch.load(os.path.join(run(e, folder), 'finetune', 'last.pth'))['model']
                        for n, w in wrappers(pruner).items(): w.module.weight.data.copy_(then[n + '.weight'])
                    pruner.update_epoch(e)
                    pruner.update_mask()
                if e not in updates: continue
                for layer, mask in masks_of(pruner).items():
                    w = wrappers(pruner)[layer].module.weight.data
                    s, flat = pruner.compute_target_sparsity(config[0]), w.double().reshape(len(w), -1)
                    scores = {'l1': flat.abs().sum(1), 'l2': flat.pow(2).sum(1).sqrt()}.get(algorithm)
                    keys = ('weight',) if algorithm == 'level' else ('weight', 'bias')
                    compare(t, f'{where} agp {algorithm} {json.dumps(base)} epoch {e}', layer, mask, saved[updates.index(e)][layer], scores, int(len(w) * s), keys=keys)


def lottery(a, t, where, name, weights, seed):
    if name == 'vgg16' and (seed or 'random' in where): return  # once: its weights are many
    for sparsity, rounds in ((.8, 3), (.96, 2))[:a.limit]:
        config = [{'sparsity': sparsity, 'prune_iterations': rounds, 'op_types': ['default']}]
        model = build(name, weights)
        optimizer = torch.optim.SGD(model.parameters(), lr=.1)
        pruner = nni.LotteryTicketPruner(model, config, optimizer)
        pruner.compress()
        with tempfile.TemporaryDirectory() as folder:
            out = run_ours(a, name, weights, config, folder, '--pruner', 'level', '--prune-schedule', 'lottery', '--finetune-epochs', '1', '--images', '128',
                           '--lr', '0.01', '--save-masks')
            t.cases += 1
            for i in pruner.get_prune_iterations():
                pruner.prune_iteration_start()
                ours = torch.load(os.path.join(out, 'masks', f'{i:03}.pth'))
                for layer, mask in masks_of(pruner).items(): compare(t, f'{where} lottery {sparsity} round {i}', layer, mask, ours[layer], None, 0, keys=('weight',))
                for n, w in wrappers(pruner).items():
                    if i and not torch.equal(w.module.weight.data, weights[n + '.weight']): t.wrong.append(f'{where} lottery: NNI did not go back in round {i}')
                learnt = torch.load(os.path.join(out, f'round{i}', 'last.pth'))['model']
                for n, w in wrappers(pruner).items(): w.module.weight.data.copy_(learnt[n + '.weight'])


def admm(a, t, where, name, weights, seed):
    """Z, U and the masks, with our W at the end of every iteration."""
    if name == 'vgg16' and (seed or 'random' in where): return  # once: its weights are many
    for algorithm, kinds in (('level', ['default']), ('l1', ['Conv2d'])):
        config, iterations = [{'sparsity': .6, 'op_types': kinds}], 3
        ends, z_ours, u_ours = [], [], []
        for n in range(1, iterations + 1):
            with tempfile.TemporaryDirectory() as folder:
                # The config's sparsity is a key of the file; rounds are ours to say.
                torch.save(weights, os.path.join(folder, 'in.pth'))
                out = run_ours(a, name, weights, config, folder, '--pruner', algorithm, '--prune-schedule', 'admm', '--prune-iterations', str(n), '--prune-epochs', '1',
                               '--admm-row', '0.05', '--finetune-epochs', '0', '--images', '128', '--lr', '0.01')
                last, masks = torch.load(os.path.join(out, 'admm', 'last.pth')), torch.load(out + '/mask.pth')
            ends.append(last['model'])
            z_ours.append(last['observers']['admm']['z']); u_ours.append(last['observers']['admm']['u'])
        z_theirs, sums = [], []

        class Watched(nni.ADMMPruner):
            def _projection(self, weight, sparsity):
                z = super()._projection(weight, sparsity)
                sums.append(weight.clone()); z_theirs.append(z.clone())
                return z
        step = iter(range(iterations))

        def trainer(model, optimizer, criterion, epoch, callback):
            k = next(step)
            for n, w in wrappers(pruner).items(): w.module.weight.data = ends[k][n + '.weight'].clone(memory_format=torch.contiguous_format)
        pruner = Watched(build(name, weights), config, trainer, num_iterations=iterations, training_epochs=1, base_algo=algorithm)
        pruner.compress()
        t.cases += 1
        layers = list(wrappers(pruner))
        for layer, mask in masks_of(pruner).items(): compare(t, f'{where} admm {algorithm}', layer, mask, masks[layer], None, 0, keys=('weight',) if algorithm == 'level' else ('weight', 'bias'))
        for k in range(iterations - 1):  # our checkpoint of iteration k + 1 has what iteration k left
            for i, layer in enumerate(layers):
                z, s = z_theirs[k * len(layers) + i], sums[k * len(layers) + i]
                for what, theirs, mine in (('Z', z, z_ours[k + 1][i]), ('U', s - z, u_ours[k + 1][i])):
                    t.elements += theirs.numel()
                    if not torch.equal(theirs == 0, mine == 0) or (theirs - mine).abs().max() > 1e-6 * s.abs().max():
                        t.wrong.append(f'{where} admm {algorithm} {layer}: {what} of iteration {k} differs by {(theirs - mine).abs().max().item():.2g}')


def defects(a, t, where, name, weights, seed):
    """What NNI 1.7 does as it is. Ours: the tests of the names in brackets."""
    if name != 'naive' or seed or 'trained' not in where: return
    def failing(what, f):
        try: said = f()
        except Exception as e: said = f'{type(e).__name__}: {e}'
        print(f'NNI: {what}: {said}', flush=True)
        if said is None: t.wrong.append(f'defect not shown: {what}')
    conv = {'op_types': ['Conv2d']}
    whole = {'initial_sparsity': .0, 'final_sparsity': .8, 'start_epoch': 0, 'end_epoch': 6, 'frequency': 1, **conv}
    sgd = lambda m, lr=0.: torch.optim.SGD(m.parameters(), lr=lr)

    def over():
        m = build(name, weights)
        for c in (m.conv1, m.conv2): c.weight.data += 1  # filters far from zero, which is then nowhere near their median
        p = nni.AGP_Pruner(m, [whole], sgd(m), pruning_algorithm='fpgm') if hasattr(nni, 'AGP_Pruner') else nni.AGPPruner(m, [whole], sgd(m), pruning_algorithm='fpgm')
        p.compress()
        for e in range(1, 6):
            p.update_epoch(e); p.update_mask()
        for n, w in wrappers(p).items():
            gone, asked = int((w.weight_mask.flatten(1).sum(1) == 0).sum()), int(len(w.weight_mask) * p.compute_target_sparsity(whole))
            if gone > asked: return f'{gone} filters of {n} masked, {asked} asked for'

    def span():
        m = build(name, weights)
        cls = getattr(nni, 'AGPPruner', None) or nni.AGP_Pruner
        cls(m, [{**whole, 'end_epoch': 1}], sgd(m), pruning_algorithm='l1').compress()

    def slim():
        m = build(name, weights)
        cls = getattr(nni, 'AGPPruner', None) or nni.AGP_Pruner
        cls(m, [{**whole, 'op_types': ['BatchNorm2d']}], sgd(m), pruning_algorithm='slim').compress()

    def steps(pruner_class, lr, evaluations=0, optimizer=True):
        m = build(name, weights)
        o = sgd(m, lr)
        p = pruner_class(m, [{'sparsity': .5, **conv}], o if optimizer else None)
        quiet(p.compress())
        used = [x for x, _ in batches(name, a.data, 3)]
        y = batches(name, a.data, 3)[0][1]
        for _ in range(evaluations): m(used[1])
        before = {n: w.module.weight.data.clone() for n, w in wrappers(p).items()}
        o.zero_grad(); F.cross_entropy(m(used[0]), y).backward()
        right = {n: (before[n] * w.module.weight.grad).pow(2).flatten(1).sum(1) for n, w in wrappers(p).items()}
        o.step()
        return p, right

    def late():
        p, right = steps(nni.TaylorFOWeightFilterPruner, .5)
        n, w = next(iter(wrappers(p).items()))
        off = ((w.contribution - right[n]).abs() / right[n]).max().item()
        if off > 1e-3 and bool(w.weight_mask.all()): return f'scores use the weight after the update (off by {off:.0%}), and after statistics_batch_num steps nothing is masked yet'

    def never():
        p, _ = steps(nni.TaylorFOWeightFilterPruner, 0., optimizer=False)
        p.update_mask()
        if all(bool(w.weight_mask.all()) for w in wrappers(p).values()): return 'masks of ones for ever without an optimizer'

    def evaluations():
        p, _ = steps(nni.ActivationAPoZRankFilterPruner, 0., evaluations=5)
        n = len(p.collected_activation[0])
        if n > 1: return f'{n} batches used for statistics_batch_num=1: every forward counts'

    def lottery_crash():
        m = build(name, weights)
        p = nni.LotteryTicketPruner(m, [{'sparsity': .5, 'prune_iterations': 1, 'op_types': ['default']}])
        p.compress(); p.prune_iteration_start()

    def alias():
        pulls = []
        def trainer(model, optimizer, criterion, epoch, callback):
            for w in wrappers(p).values(): w.module.weight.data += .01
            before = [w.module.weight.data.clone() for w in wrappers(p).values()]
            callback()
            pulls.append(max((w.module.weight.data - b).abs().max().item() for w, b in zip(wrappers(p).values(), before)))
        p = nni.ADMMPruner(build(name, weights), [{'sparsity': .5, 'op_types': ['Conv2d']}], trainer, num_iterations=2, training_epochs=1, row=.1)
        p.compress()
        if pulls[0] == 0: return f'the pull of iteration 1 is {pulls[0]}, of iteration 2 {pulls[1]:.3g}: Z is W itself'

    failing('fpgm under agp [criteria_test: fpgm]', over)
    failing('agp with end - start <= frequency [prune_schedule_test: agp]', span)
    failing('agp with slim [prune_schedule_test: agp with slim]', slim)
    failing('taylor in training [criteria_test: taylor]', late)
    failing('taylor without optimizer [criteria_test: taylor]', never)
    failing('apoz with evaluations in between [prune_schedule_test: a loop of one\'s own]', evaluations)
    failing('lottery without optimizer [prune_schedule_test: a lottery ticket]', lottery_crash)
    failing('admm [prune_schedule_test: admm in training]', alias)


def magnitude(a, t, where, name, weights, seed):
    for pruner in ('level', 'l1', 'l2', 'slim'):
        state = dict(weights)
        for config in configs(MODELS[name](), pruner)[:a.limit]:
            with tempfile.TemporaryDirectory() as folder:
                theirs, ours = mask_exact.theirs(name, state, pruner, config, folder), mask_exact.ours(a.model_prune, name, state, pruner, config, folder)
            t.cases += 1
            for layer, mask in theirs.items():
                t.layers += 1; t.elements += mask['weight'].numel()
                found = mask_exact.compare(layer, mask, ours.get(layer, {'weight': torch.zeros(1)}), state[layer + '.weight'], pruner, winner(config, layer).get('sparsity'))
                if found: (t.excused if found[0] == 'excused' else t.wrong).append(f'{where} {pruner} {json.dumps(config)}: {found[1]}')


ROWS = {'magnitude': [magnitude], 'fpgm': [fpgm], 'taylor': [statistics('taylor', 1), statistics('taylor', 3)],
        'apoz': [statistics('apoz', 1), statistics('apoz', 3)], 'mean': [statistics('mean', 1), statistics('mean', 3)],
        'agp': [agp], 'lottery': [lottery], 'admm': [admm], 'defects': [defects]}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--model-prune', required=True)
    p.add_argument('--data', required=True)
    p.add_argument('--models', default='lenet,naive,vgg16')
    p.add_argument('--rows', default=','.join(ROWS))
    p.add_argument('--seeds', default='0,1,2')
    p.add_argument('--steps', type=int, default=200, help='of training for trained weights (VGG: a quarter)')
    p.add_argument('--limit', type=int, help='at most so many config lists per row, for a quick look')
    p.add_argument('--out')
    a = p.parse_args()
    tallies = {row: Tally() for row in a.rows.split(',')}
    for name in a.models.split(','):
        for seed in map(int, a.seeds.split(',')):
            torch.manual_seed(seed + 7)
            model = MODELS[name]()
            kinds = {'random': {k: v.clone() for k, v in model.state_dict().items()}}
            for layer, m in model.named_modules():  # gammas that differ
                if isinstance(m, torch.nn.BatchNorm2d): kinds['random'][layer + '.weight'] = torch.rand(m.num_features)
            train(model, name, a.data, a.steps // (4 if name.startswith('vgg') else 1))
            kinds['trained'] = {k: v.clone() for k, v in model.state_dict().items()}
            for kind, state in kinds.items():
                for row, t in tallies.items():
                    for f in ROWS[row]: f(a, t, f'{name} seed {seed} {kind} {row}', name, state, seed)
                    print(f'{name} seed {seed} {kind} {row}: {t.layers} layers so far, {len(t.wrong)} wrong, {len(t.excused)} excused', flush=True)
    for row, t in tallies.items():
        for line in t.excused: print('excused:', line)
        for line in t.wrong: print('WRONG:', line)
    print('\nrow          cases  layer masks    elements  wrong  excused  PyTorch\'s two layouts apart by')
    for row, t in tallies.items():
        print(f'{row:12}{t.cases:6}{t.layers:13}{t.elements:12}{len(t.wrong):7}{len(t.excused):9}  ' + (f'{t.tolerance[row]:.2g}' if row in t.tolerance else '-'))
    if a.out:
        with open(a.out, 'w') as f: json.dump({row: t.__dict__ for row, t in tallies.items()}, f, indent=1)
    sys.exit(any(t.wrong for t in tallies.values()))


if __name__ == '__main__': main()
