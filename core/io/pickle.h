// Python's pickles as data. A pickle is a program for a small stack machine; this one runs it
// without ever calling anything: what Python would call is kept as a record of the call, and the
// reader of the records decides what it knows. Protocols 2, which torch.save writes, to 5 are
// understood, and only the opcodes that data needs.
#pragma once
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::pickle {

using Ref = uint32_t;  // a place in Pickle::objects

struct Object {
  enum Kind : uint8_t {
    none,
    boolean,
    integer,
    real,
    text,        // UTF-8
    bytes,       // in text_value
    list,        // also a set
    tuple,       // items
    dict,        // items: key, value, key, value, ...
    global,      // text: "module name"
    call,        // items: what is called (a global), its arguments (a tuple), then entries set on the
                 // result as in dict
    persistent,  // items: the persistent id
  } kind = none;
  Ref state = 0;              // of a call: what was set on its result; 0, where no state can be, for nothing
  int64_t integer_value = 0;  // also of a boolean
  double real_value = 0;
  std::string_view text_value;  // into the pickle's bytes, or into Pickle::names
  std::vector<Ref> items;
};

struct Pickle {
  std::vector<Object> objects;
  std::deque<std::string> names;  // of globals
  Ref root = 0;
  const Object& operator[](Ref r) const { return objects[r]; }
};

// `bytes` must outlive the result; errors are ErrorKind::data and name `name`. Objects may contain
// one another, even themselves: whoever walks them must bound the walk. `used`: where the pickle ended.
Pickle parse(std::span<const char> bytes, const std::string& name, size_t* used = nullptr);

// Writes a pickle, opcode by opcode; the result loads with pickle.load in any Python 3.
class Writer {
 public:
  Writer() : bytes_("\x80\x02") {}
  Writer& none() { return op('N'); }
  Writer& boolean(bool b) { return op(b ? '\x88' : '\x89'); }
  Writer& integer(int64_t i);
  Writer& real(double d);
  Writer& text(std::string_view s);
  Writer& global(std::string_view module_and_name);  // "module name"
  Writer& op(char opcode) {
    bytes_ += opcode;
    return *this;
  }
  std::string finish() { return std::move(op('.').bytes_); }

 private:
  std::string bytes_;
};

// The opcodes that take no operand, by name.
namespace opcode {
constexpr char mark = '(', tuple = 't', empty_tuple = ')', empty_list = ']', empty_dict = '}', appends = 'e',
               set_items = 'u', call = 'R', persistent = 'Q';
}

}  // namespace espalier::pickle
