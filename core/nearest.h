// nearest: the known word that a misspelt one probably meant, for error messages that help.
#pragma once
#include <espalier/core/api.h>

#include <string>
#include <string_view>
#include <vector>

namespace espalier {

// The known word with the smallest edit distance (case ignored), or "" if none is near: a third of the letters, at
// least two, may differ. The earliest of equally near ones.
ESPALIER_API std::string nearest(std::string_view word, const std::vector<std::string>& known);

// " (did you mean \"sparsity\"?)", or "" if nothing is near: to end an error's text.
ESPALIER_API std::string did_you_mean(std::string_view word, const std::vector<std::string>& known);

}  // namespace espalier
