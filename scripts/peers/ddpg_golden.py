"""NNI 1.8's AMC, the program itself: its DDPG agent, three updates from fixed weights and batches, and what its
environment says of the layers of a chain of 1x1 convolutions: tests/data/ddpg.json.

  ddpg_golden.py --nni-later DIR [--out tests/data/ddpg.json]

Needs a Python with NNI 1.8 in it; DIR holds nni_later.py, which imports it ("from nni_later import nni").
"""
import argparse, json, math, os, sys, tempfile, types
os.environ['NNI'] = '1.8'


def number(i, salt):  # ours: tests/ddpg_test.cpp
    return math.sin(1.7 * i + salt)


def main():
    p = argparse.ArgumentParser(); p.add_argument('--nni-later', required=True); p.add_argument('--out', default='tests/data/ddpg.json'); a = p.parse_args()
    sys.path.insert(0, a.nni_later)
    import numpy as np, torch
    from nni_later import nni  # noqa: F401
    sys.modules.setdefault('tensorboard', types.ModuleType('tensorboard'))
    from nni.compression.torch.pruning.amc.lib.agent import DDPG
    args = types.SimpleNamespace(hidden1=12, hidden2=7, lr_c=1e-2, lr_a=1e-3, rmsize=100, window_length=1, bsize=5, tau=.1, discount=1.,
                                 init_delta=.5, delta_decay=.99, warmup=1, lbound=0., rbound=1., epsilon=50000)
    agent = DDPG(4, 1, args)
    for salt, net in enumerate([agent.actor, agent.critic]):
        for k, q in enumerate(net.parameters()):
            q.data = torch.tensor([.4 * number(i, 10 * salt + k) for i in range(q.numel())], dtype=torch.float32).reshape(q.shape)
    agent.hard_update(agent.actor_target, agent.actor); agent.hard_update(agent.critic_target, agent.critic)
    for u in range(3):
        s = np.array([[number(4 * i + j, u) for j in range(4)] for i in range(5)])
        t = np.array([[number(4 * i + j, u + .5) for j in range(4)] for i in range(5)])
        act = np.array([[.5 + .5 * number(i, u + 2)] for i in range(5)])
        reward = np.array([[number(i, u + 3)] for i in range(5)])
        alive = np.array([[0. if i == 4 else 1.] for i in range(5)])
        agent.memory.sample_and_split = lambda n, s=s, act=act, reward=reward, t=t, alive=alive: (s, act, reward.copy(), t, alive)
        agent.update_policy()
    from nni.compression.torch import AMCPruner
    widths, strides = (3, 16, 24, 32, 20), (1, 2, 1, 1)
    net = torch.nn.Sequential(*[l for i in range(4) for l in (torch.nn.Conv2d(widths[i], widths[i + 1], 1, stride=strides[i], bias=False), torch.nn.ReLU())],
                              torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(20, 10))
    data = torch.utils.data.TensorDataset(torch.randn(20, 3, 8, 8), torch.zeros(20, dtype=torch.long))
    with tempfile.TemporaryDirectory() as folder:
        pruner = AMCPruner(net, [{'op_types': ['Conv2d']}], lambda *_: 1., torch.utils.data.DataLoader(data, batch_size=10), suffix='amc',
                           dataset='cifar10', flops_ratio=.5, output_dir=folder, n_calibration_batches=1)
    embedding = [[float(x) for x in row[:7]] for row in pruner.env.layer_embedding]
    flat = lambda net: [float(x) for q in net.parameters() for x in q.data.flatten()]
    with open(a.out, 'w') as f:
        json.dump({'cases': {'actor': flat(agent.actor), 'critic': flat(agent.critic), 'embedding': embedding}}, f)
        f.write('\n')


if __name__ == '__main__': main()
