"""Compares training steps with PyTorch's, on real CIFAR-10 batches of 64 in the files' order, without augmentation.

  step_exact.py --train build/examples/train --data cifar-10-batches-bin [--models vgg19 resnet20] [--bars a b c]

(a) forced: from PyTorch's state (weights and momenta) before steps 0, 1, 4, 9 and 19, one step of ours. The loss must be
    within 1e-5 relative, and the whole gradient as far from PyTorch's in float64 as at most twice the worse of PyTorch's
    own two layouts. The gradient is read off the momentum buffer after the step: g = v' - momentum·v - weight_decay·w.
(b) free: 20 steps from the same first values, of the twins with SiLU and average pooling: every loss within 1e-3 relative
    and the whole update, weights after minus weights before, within 1e-3.
(c) free with ReLU, which is chaotic: ours beside PyTorch against itself (channels last against contiguous), printed.

Needs PyTorch and NumPy. Exit status 1 if a bar is missed. SGD lr 0.01, momentum 0.9, weight decay 1e-4.
"""
import argparse, csv, functools, json, math, os, shutil, subprocess, sys
import numpy as np, torch, torch.nn.functional as F
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import models

LR, MOMENTUM, DECAY, STEPS, FORCED = .01, .9, 1e-4, 20, (0, 1, 4, 9, 19)
MEAN, STD = (.4914, .4822, .4465), (.2023, .1994, .2010)
CONTIGUOUS, LAST = torch.contiguous_format, torch.channels_last


def cifar_batches(folder, n):
    records = np.fromfile(f'{folder}/data_batch_1.bin', dtype=np.uint8).reshape(-1, 3073)[:64 * n]
    images = torch.from_numpy(records[:, 1:].astype(np.float32)).reshape(-1, 3, 32, 32) / 255
    images = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    return images.split(64), torch.from_numpy(records[:, 0].astype(np.int64)).split(64)


def build(name, state, layout=CONTIGUOUS, dtype=torch.float32):
    model = models.make(name)
    model.load_state_dict(state)
    return model.to(dtype).to(memory_format=layout).train()


def copied(state):
    return {k: v.detach().clone().contiguous() for k, v in state.items()}


def gradient(name, state, images, labels, layout, dtype):
    model = build(name, state, layout, dtype)
    loss = F.cross_entropy(model(images.to(dtype).to(memory_format=layout)), labels)
    loss.backward()
    return loss.item(), {k: p.grad.double().contiguous() for k, p in model.named_parameters()}


@functools.cache
def first_values(name):
    torch.manual_seed(1)
    return copied(models.make(name).state_dict())


@functools.cache
def train(name, layout=CONTIGUOUS):
    """Losses, the states before the forced steps (weights, momenta), and the weights after all steps."""
    model, losses, before = build(name, first_values(name.removesuffix('-smooth')), layout), [], {}
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    for step, (images, labels) in enumerate(zip(*DATA)):
        if step in FORCED:
            momenta = {k: optimizer.state[p].get('momentum_buffer') for k, p in model.named_parameters()}
            before[step] = copied(model.state_dict()), {k: v.clone().contiguous() for k, v in momenta.items() if v is not None}
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images.to(memory_format=layout)), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, before, copied(model.state_dict())


def distance(a, b):
    return math.sqrt(sum(((a[k].double() - b[k].double())**2).sum().item() for k in b))


def norm(a):
    return math.sqrt(sum((v.double()**2).sum().item() for v in a.values()))


class Ours:
    """Our `train`, run in a folder of its own."""
    def __init__(self, arguments, name, folder, state):
        self.folder, self.name = folder, name
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        weights = folder + '-first.pth'
        torch.save(state, weights)
        saved = ','.join(map(str, sorted({s for k in FORCED for s in (k, k + 1)})))
        self.command = [arguments.train, '--model', name, '--weights', weights, '--dataset', 'cifar10', '--data', arguments.data,
                        '--augment', 'none', '--shuffle', 'off', '--images', str(64 * STEPS), '--test-images', '64', '--epochs', '1',
                        '--lr', str(LR), '--momentum', str(MOMENTUM), '--weight-decay', str(DECAY), '--schedule', 'none',
                        '--batch-size', '64', '--log-steps', folder + '-losses.csv', '--save-steps', saved, '--out', folder]

    def run(self, steps, *more):
        done = subprocess.run([*self.command, '--max-steps', str(steps), *more], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f'{" ".join(self.command)} failed: {done.stderr.strip()}')

    def losses(self):
        with open(self.folder + '-losses.csv') as f:
            return {int(row['step']): float(row['loss']) for row in csv.DictReader(f)}

    def state(self, step):
        return torch.load(f'{self.folder}/steps/step_{step}.pth', weights_only=True)

    def force(self, step, weights, momenta):
        """Puts a state of PyTorch's in the place of our checkpoint, at batch `step` of the first epoch."""
        group = {'lr': LR, 'momentum': MOMENTUM, 'initial_lr': LR, 'initial_momentum': MOMENTUM, 'parameters': list(momenta)}
        torch.save({'model': weights, 'ports': {}, 'schedule': 'none', 'random': {'seed': 0, 'draws': 0}, 'epoch': 0, 'batch': step,
                    'step': step, 'loss_sum': 0., 'seconds': 0., 'correct': 0, 'seen': 0, 'best_accuracy': -1., 'metrics': [],
                    'optimizer': {'type': 'SGD', 'groups': [group], 'steps': {k: step for k in momenta},
                                  'state': {k: {'momentum_buffer': v} for k, v in momenta.items()}}}, self.folder + '/last.pth')


def forced(arguments, name):
    first, before = first_values(name), train(name)[1]
    ours, rows, good = Ours(arguments, name, f'{arguments.out}/{name}-forced', first), [], True
    for step in FORCED:
        weights, momenta = before[step]
        if step == 0:
            ours.run(1)
        else:
            ours.force(step, weights, momenta)
            ours.run(step + 1, '--resume')
        images, labels = DATA[0][step], DATA[1][step]
        exact_loss, exact = gradient(name, weights, images, labels, CONTIGUOUS, torch.float64)
        whole = norm(exact)
        torches = [gradient(name, weights, images, labels, layout, torch.float32) for layout in (CONTIGUOUS, LAST)]
        torch_distance = [distance(g, exact) / whole for _, g in torches]
        start, end = ours.state(step), ours.state(step + 1)
        for k in exact:  # the step began where PyTorch's did
            if not torch.equal(start['model'][k], weights[k]): sys.exit(f'{name}: {k} was not taken over at step {step}')
        g = {k: end['momentum'][k].double() - MOMENTUM * (momenta[k].double() if k in momenta else 0) - DECAY * weights[k].double()
             for k in exact}
        row = {'step': step, 'loss': exact_loss, 'loss_error': abs(ours.losses()[step] / exact_loss - 1),
               'torch_loss_error': max(abs(l / exact_loss - 1) for l, _ in torches),
               'gradient_error': distance(g, exact) / whole, 'torch_gradient_errors': torch_distance}
        row['good'] = row['loss_error'] <= 1e-5 and row['gradient_error'] <= 2 * max(torch_distance)
        good = good and row['good']
        rows.append(row)
        print(f"(a) {name:16} step {step:2}: loss {exact_loss:.6f}, off by {row['loss_error']:.1e} (PyTorch {row['torch_loss_error']:.1e}); "
              f"gradient off by {row['gradient_error']:.2e} (PyTorch {torch_distance[0]:.2e}, channels last {torch_distance[1]:.2e})"
              f"{'' if row['good'] else '  MISSED'}", flush=True)
    return good, rows


def free(arguments, name, bar):
    first = first_values(name.removesuffix('-smooth'))
    losses, _, after = train(name)
    last_losses, _, last_after = train(name, LAST)
    ours = Ours(arguments, name, f'{arguments.out}/{name}-free', first)
    ours.run(STEPS)
    found, parameters = ours.losses(), [k for k, _ in models.make(name).named_parameters()]
    worst = max(abs(found[s] / losses[s] - 1) for s in range(STEPS))
    torch_worst = max(abs(a / b - 1) for a, b in zip(last_losses, losses))
    update = {k: after[k].double() - first[k].double() for k in parameters}
    end = ours.state(STEPS)['model']
    error = distance({k: end[k].double() - first[k].double() for k in parameters}, update) / norm(update)
    torch_error = distance({k: last_after[k].double() - first[k].double() for k in parameters}, update) / norm(update)
    good = not bar or (worst <= 1e-3 and error <= 1e-3)
    print(f"({'b' if bar else 'c'}) {name:16} {STEPS} steps: worst loss off by {worst:.1e} (PyTorch from itself {torch_worst:.1e}), "
          f"update off by {error:.1e} (PyTorch from itself {torch_error:.1e}){'' if good else '  MISSED'}", flush=True)
    return good, {'losses': losses, 'channels_last': last_losses, 'ours': [found[s] for s in range(STEPS)], 'worst_loss_error': worst,
                  'torch_worst_loss_error': torch_worst, 'update_error': error, 'torch_update_error': torch_error}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--train', required=True, help="our executable")
    parser.add_argument('--data', required=True, help='folder with data_batch_1.bin')
    parser.add_argument('--models', nargs='+', default=['vgg19', 'resnet20'])
    parser.add_argument('--bars', nargs='+', default=['a', 'b', 'c'], choices=['a', 'b', 'c'])
    parser.add_argument('--out', default='step_exact', help='folder for what is written on the way')
    parser.add_argument('--threads', type=int, default=2, help="PyTorch's")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    global DATA
    DATA, good, report = cifar_batches(arguments.data, STEPS), True, {'pytorch': torch.__version__}
    for name in arguments.models:
        if 'a' in arguments.bars:
            ok, report[f'{name} forced'] = forced(arguments, name)
            good = good and ok
        for bar, twin in (('b', name + '-smooth'), ('c', name)):
            if bar in arguments.bars:
                ok, report[f'{twin} free'] = free(arguments, twin, bar == 'b')
                good = good and ok
    with open(f'{arguments.out}/report.json', 'w') as f:
        json.dump(report, f, indent=1)
    print('all bars met' if good else 'a bar was missed')
    sys.exit(not good)


if __name__ == '__main__':
    main()
