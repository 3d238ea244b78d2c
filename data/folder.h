// Where the files of a set lie: in the folder that the user names, or one step further down, as they were unpacked.
#pragma once
#include <string>

namespace espalier {

// dir/sub if `file` lies there, dir if it lies there; else throws ErrorKind::data and says what fetches the data.
std::string data_folder(const char* reader, const std::string& dir, const std::string& sub, const std::string& file);

}  // namespace espalier
