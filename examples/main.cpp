// Every executable of this folder: the tool whose function ESPALIER_TOOL names.
#include "tools.h"

int main(int argc, char** argv) { return espalier::tool::ESPALIER_TOOL(argc, argv); }
