// The tools as functions: what build/PRESET/examples/NAME does, for a program of one's own. Register networks
// (register_model) and image sets (register_dataset) first, and every tool knows them:
//
//     int main(int argc, char** argv) {
//       espalier::register_model({.name = "mine", .input = {3, 32, 32}}, [](ModelOptions) { return ...; });
//       return espalier::tool::main(argc, argv);  // mytool train --model mine ...; mytool model_prune ...
//     }
//
// They print, handle SIGINT and SIGTERM and return the exit code of a process: 0 done, 2 usage, 3 data, 4 missing
// device, 1 anything else, 128 + signal when stopped by one. Link espalier::tools.
#pragma once

// The tools.
namespace espalier::tool {

// Trains a model.
int train_main(int argc, char** argv);
// Prunes one and fine-tunes it.
int model_prune_main(int argc, char** argv);
// Quantizes one, after training or with more of it.
int model_quantize_main(int argc, char** argv);
// Cuts out what masks have made useless, and times both.
int model_speedup_main(int argc, char** argv);
// Loss and accuracy of a file of weights.
int evaluate_main(int argc, char** argv);
// The classes that a model sees in images.
int predict_main(int argc, char** argv);
// The whole story on a VGG-19.
int quickstart_main(int argc, char** argv);
// Pictures from CSV files.
int report_main(int argc, char** argv);
// What a model loses with each of its layers.
int sensitivity_main(int argc, char** argv);

// All of them in one program: argv[1] names the tool, the rest is its own.
int main(int argc, char** argv);

}  // namespace espalier::tool
