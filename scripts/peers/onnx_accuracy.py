"""Do other runtimes see in an exported network what it saw here? Accuracy on CIFAR-10's test images.

  onnx_accuracy.py --data DIR RUN...

RUN is an --out folder of model_quantize (or train, model_prune with --onnx) that holds model.onnx and summary.json; DIR
holds CIFAR-10's binary files. ONNX Runtime and OpenVINO, as far as they are installed, at their defaults, get the images
as the file's own metadata says (mean, std); printed are their accuracies beside what summary.json says of integers, and
how many classes differ from ONNX Runtime's. Exit status 1 if an accuracy is farther than 0.2 points from ours.
"""
import argparse, json, os, sys
import numpy as np, onnx


def images(folder):
    for place in (folder, os.path.join(folder, 'cifar-10-batches-bin')):
        path = os.path.join(place, 'test_batch.bin')
        if os.path.exists(path):
            rows = np.fromfile(path, np.uint8).reshape(-1, 3073)
            return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(int)
    sys.exit(f'no test_batch.bin under {folder}')


def constants(path):
    meta = {p.key: p.value for p in onnx.load(path).metadata_props}
    if 'mean' not in meta or 'std' not in meta: sys.exit(f'{path} does not say its mean and std')
    return json.loads(meta['mean']), json.loads(meta['std'])


def onnxruntime_side(path):
    import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def openvino_side(path):
    import openvino
    compiled = openvino.compile_model(path, 'CPU')
    return lambda x: compiled([x])[0]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', required=True)
    p.add_argument('runs', nargs='+', metavar='RUN')
    a = p.parse_args()
    x, y = images(a.data)
    worst = 0
    for run in a.runs:
        path = os.path.join(run, 'model.onnx')
        with open(os.path.join(run, 'summary.json')) as f: summary = json.load(f)
        ours = 100 * (summary.get('integer') or summary)['test']['accuracy']
        mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in constants(path))
        line, first = f'{os.path.basename(os.path.normpath(run)):16} ours {ours:.2f} %', None
        for name, make in (('ONNX Runtime', onnxruntime_side), ('OpenVINO', openvino_side)):
            try: side = make(path)
            except ImportError:
                line += f'   {name} is not installed'
                continue
            classes = np.concatenate([side(((x[i:i + 100].astype(np.float32) / np.float32(255)) - mean) / std).argmax(1) for i in range(0, len(x), 100)])
            accuracy = 100 * float((classes == y).mean())
            if first is None: first = classes
            line += f'   {name} {accuracy:.2f} % ({int((classes != first).sum())} of {len(y)} classes differ)'
            worst = max(worst, abs(accuracy - ours))
        print(line, flush=True)
    print(f'at most {worst:.2f} points from ours')
    return worst > .2


if __name__ == '__main__': sys.exit(main())
