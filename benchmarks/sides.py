# What the timing scripts share: each implementation is a process of its own that waits without work until it is asked.
"""The sides of a comparison. A side reads 'train 64 5' (mode, batch, repetitions) and answers with milliseconds:
bench_steps for espalier, `sides.py KIND MODEL MODELS_DIR THREADS` for PyTorch."""
import os, statistics, subprocess, sys, time

# name: (compiled, channels last)
PEERS = {'eager': (False, False), 'eager channels_last': (False, True),
         'compile': (True, False), 'compile channels_last': (True, True)}


def serve(kind, model, folder, threads):
    """The PyTorch side. folder/models.py has MODELS[model], which makes the network, and INPUT[model], its input's shape."""
    sys.path.insert(0, folder)
    import torch
    from models import INPUT, MODELS
    compiled, last = PEERS[kind]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layout = torch.channels_last if last else torch.contiguous_format
    plain = MODELS[model]().to(memory_format=layout)
    made = {}  # one compilation per job, each of one shape and mode, so that none falls back to another's code
    sgd = torch.optim.SGD(plain.parameters(), lr=.01, momentum=.9, weight_decay=1e-4)
    print('ready', torch.__version__, flush=True)
    for line in sys.stdin:
        mode, batch, count = line.split()[0], *map(int, line.split()[1:])
        x = torch.randn(batch, *INPUT[model][1:]).contiguous(memory_format=layout)
        y = torch.arange(batch) % 10
        if (mode, batch) not in made:
            made[mode, batch] = torch.compile(plain, dynamic=False) if compiled else plain
        network = made[mode, batch]
        plain.train(mode == 'train')

        def step():
            if mode == 'train':
                sgd.zero_grad()
                torch.nn.functional.cross_entropy(network(x), y).backward()
                sgd.step()
            else:
                with torch.inference_mode():
                    network(x)
        times = []
        for _ in range(count):
            start = time.perf_counter()
            step()
            times.append((time.perf_counter() - start) * 1e3)
        print(*(f'{t:.4f}' for t in times), flush=True)


class Side:
    def __init__(self, name, command, threads):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        stderr=subprocess.DEVNULL, env={**os.environ, 'OMP_NUM_THREADS': str(threads)})
        self.greeting = self.process.stdout.readline().split()
        if self.greeting[:1] != ['ready']:
            sys.exit(f'{os.path.basename(sys.argv[0])}: {name} did not start: {" ".join(command)}')

    def ask(self, mode, batch, count):
        """`count` times in milliseconds."""
        self.process.stdin.write(f'{mode} {batch} {count}\n')
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f'{os.path.basename(sys.argv[0])}: {self.name} stopped during {mode} {batch}')
        return list(map(float, line.split()))

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def ours(program, model, threads, name='espalier'):
    return Side(name, [program, model, str(threads)], threads)


def pytorch(kind, model, folder, threads, python=sys.executable):
    return Side(kind, [python, os.path.abspath(__file__), kind, model, folder, str(threads)], threads)


class Espalier:
    """A program that answers "KIND BATCH REPETITIONS" with milliseconds (bench_int8, bench_sparse)."""
    def __init__(self, program, model, threads, path=""):
        self.process = subprocess.Popen([program, model, str(threads), path], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/schedstat") as file:
            return int(file.read().split()[0]) / 1e9

    def side(self, kind):
        def ms(batch, images, repetitions):
            self.process.stdin.write(f"{kind} {batch} {repetitions}\n")
            self.process.stdin.flush()
            return [float(t) for t in self.process.stdout.readline().split()]
        return ms


def timed(f, repetitions):
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        f()
        times.append(1000 * (time.perf_counter() - start))
    return times


def onnxruntime_side(path, threads):
    """Sides that run ONNX files: f(batch, images, repetitions) gives milliseconds."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch, images, repetitions: timed(lambda: session.run(None, {name: images}), repetitions)


def by_cpu_time(side, seconds):
    """Milliseconds of the processor for each repetition, as one number."""
    def ms(batch, images, repetitions):
        start = seconds()
        side(batch, images, repetitions)
        return [1000 * (seconds() - start) / repetitions]
    return ms


def version(module):
    try:
        return f"{module} {__import__(module).__version__}"
    except ImportError:
        return f"no {module}"


def interleaved(team, reference, batch, images, repetitions, rounds):
    """Times every side in turn in each round; returns name: (median ms, ratios to the reference, sorted)."""
    found = {name: [] for name in team}
    for side in team.values():
        side(batch, images, 3)
    for _ in range(rounds):
        for name, side in team.items():
            side(batch, images, 1)
            found[name].append(statistics.median(side(batch, images, repetitions)))
    return {name: (statistics.median(times), sorted(t / o for t, o in zip(times, found[reference])))
            for name, times in found.items()}


def cpu_name():
    for line in open('/proc/cpuinfo'):
        if line.startswith('model name'):
            return line.split(':', 1)[1].strip()
    return 'unknown CPU'


if __name__ == '__main__':
    serve(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
