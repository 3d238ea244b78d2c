// The stack machine and its opposite. Opcodes are named in CPython's pickletools.py.
#include <espalier/core/error.h>
#include <espalier/core/io/pickle.h>

#include <bit>
#include <cstring>
#include <unordered_map>

namespace espalier::pickle {

namespace {

constexpr size_t max_objects = 1 << 22;  // about 400 MB of objects; a checkpoint of VGG-19 needs 3000

class Machine {
 public:
  Machine(std::span<const char> bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  Pickle run() {
    if (take(1)[0] != '\x80') damaged("is of no protocol that is read (2 to 5)");
    if (const char protocol = take(1)[0]; protocol < 2 || protocol > 5)
      damaged("has protocol ", int(uint8_t(protocol)), "; protocols 2, torch.save's default, to 5 are read");
    while (!step(take(1)[0])) {}
    return std::move(pickle_);
  }
  size_t used() const { return at_; }

 private:
  template <class... Parts>
  [[noreturn]] void damaged(const Parts&... what) const {
    fail(ErrorKind::data, "[pickle] ", name_, ": the pickle ", what...);
  }

  std::string_view take(size_t n) {
    if (n > bytes_.size() - at_) damaged("ends early");
    at_ += n;
    return {bytes_.data() + at_ - n, n};
  }
  // A little-endian unsigned number of n bytes.
  uint64_t number(size_t n) {
    uint64_t value = 0;
    std::memcpy(&value, take(n).data(), n);
    return value;
  }
  std::string_view line() {
    const char* begin = bytes_.data() + at_;
    const void* end = bytes_.size() == at_ ? nullptr : std::memchr(begin, '\n', bytes_.size() - at_);
    if (!end) damaged("ends early");
    return take(size_t(static_cast<const char*>(end) - begin) + 1)
        .substr(0, size_t(static_cast<const char*>(end) - begin));
  }

  Object& push(Object::Kind kind) {
    if (pickle_.objects.size() == max_objects) damaged("makes more than ", max_objects, " objects");
    stack_.push_back(Ref(pickle_.objects.size()));
    pickle_.objects.emplace_back().kind = kind;
    return pickle_.objects.back();
  }
  // How many values lie above the innermost mark.
  size_t above_mark() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }
  Ref pop() {
    if (above_mark() == 0) damaged("takes from an empty stack");
    const Ref r = stack_.back();
    stack_.pop_back();
    return r;
  }
  Object& top() {
    if (above_mark() == 0) damaged("uses an empty stack");
    return pickle_.objects[stack_.back()];
  }
  std::vector<Ref> pop_to_mark() {
    if (marks_.empty()) damaged("ends a group that it did not begin");
    std::vector<Ref> items(stack_.begin() + std::ptrdiff_t(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  void tuple(std::vector<Ref> items) { push(Object::tuple).items = std::move(items); }
  void tuple_of(size_t n) {
    std::vector<Ref> items(n);
    for (size_t i = n; i-- > 0;) items[i] = pop();
    tuple(std::move(items));
  }
  void extend(Object::Kind kind, const std::vector<Ref>& items) {
    Object& o = top();
    const bool fits = o.kind == kind || (kind == Object::dict && o.kind == Object::call);
    if (!fits || (kind == Object::dict && items.size() % 2 != 0))
      damaged("adds ", items.size(), " values to an object that cannot hold them");
    o.items.insert(o.items.end(), items.begin(), items.end());
  }
  void get(uint64_t place) {
    const auto found = memo_.find(place);
    if (found == memo_.end()) damaged("recalls value ", place, ", which it did not keep");
    stack_.push_back(found->second);
    if (stack_.size() > max_objects) damaged("stacks more than ", max_objects, " values");
  }
  void put(uint64_t place) {
    top();
    memo_[place] = stack_.back();
  }
  void global(std::string_view module, std::string_view name) {
    std::string both = std::string(module) + ' ' + std::string(name);
    for (char c : both)
      if (c < ' ' || c > '~') damaged("has a global whose name is not text");
    pickle_.names.push_back(std::move(both));
    push(Object::global).text_value = pickle_.names.back();
  }
  void global_from_stack() {
    const Ref name = pop(), module = pop();
    if (pickle_[name].kind != Object::text || pickle_[module].kind != Object::text)
      damaged("has a global whose name is not text");
    global(pickle_[module].text_value, pickle_[name].text_value);
  }
  void text(Object::Kind kind, size_t length_bytes) {
    const auto s = take(size_t(number(length_bytes)));
    push(kind).text_value = s;
  }
  void long_integer() {
    const size_t n = size_t(number(1));
    if (n > 8) {  // a random generator's state, say: read as nothing, which no number is
      take(n);
      push(Object::none);
      return;
    }
    const uint64_t raw = number(n);
    const unsigned unused = unsigned(64 - 8 * n);
    push(Object::integer).integer_value = n == 0 ? 0 : int64_t(raw << unused) >> unused;  // extends the sign
  }
  void call() {
    const Ref arguments = pop(), callee = pop();
    if (pickle_[callee].kind != Object::global || pickle_[arguments].kind != Object::tuple)
      damaged("calls something that is not a function");
    push(Object::call).items = {callee, arguments};
  }

  // True at the end of the program.
  bool step(char code) {
    switch (code) {
      case '.':
        if (stack_.size() != 1 || !marks_.empty()) damaged("does not end with one value");
        pickle_.root = stack_[0];
        return true;
      case '(':
        marks_.push_back(stack_.size());
        if (marks_.size() > max_objects) damaged("begins more than ", max_objects, " groups");
        break;
      case 'N':
        push(Object::none);
        break;
      case '\x88':
        push(Object::boolean).integer_value = 1;
        break;
      case '\x89':
        push(Object::boolean);
        break;
      case 'J': {
        const auto v = int32_t(number(4));
        push(Object::integer).integer_value = v;
      } break;
      case 'K': {
        const auto v = int64_t(number(1));
        push(Object::integer).integer_value = v;
      } break;
      case 'M': {
        const auto v = int64_t(number(2));
        push(Object::integer).integer_value = v;
      } break;
      case '\x8a':
        long_integer();
        break;
      case 'G': {  // big-endian
        const auto v = std::bit_cast<double>(__builtin_bswap64(number(8)));
        push(Object::real).real_value = v;
      } break;
      case '\x8c':
      case 'U':  // Python 2's str
        text(Object::text, 1);
        break;
      case 'X':
      case 'T':
        text(Object::text, 4);
        break;
      case '\x8d':
        text(Object::text, 8);
        break;
      case 'C':
        text(Object::bytes, 1);
        break;
      case 'B':
        text(Object::bytes, 4);
        break;
      case '\x8e':
      case '\x96':  // a bytearray
        text(Object::bytes, 8);
        break;
      case '\x95':  // a frame: how much could be read at once
        if (number(8) > bytes_.size() - at_) damaged("ends early");
        break;
      case ']':
      case '\x8f':  // a set
        push(Object::list);
        break;
      case '\x91': {  // a frozenset
        auto items = pop_to_mark();
        push(Object::list).items = std::move(items);
      } break;
      case '}':
        push(Object::dict);
        break;
      case ')':
        push(Object::tuple);
        break;
      case 't':
        tuple(pop_to_mark());
        break;
      case '\x85':
        tuple_of(1);
        break;
      case '\x86':
        tuple_of(2);
        break;
      case '\x87':
        tuple_of(3);
        break;
      case 'a': {
        const Ref item = pop();
        extend(Object::list, {item});
      } break;
      case 'e':
      case '\x90': {
        const auto items = pop_to_mark();
        extend(Object::list, items);
      } break;
      case 's': {
        const Ref value = pop(), key = pop();
        extend(Object::dict, {key, value});
      } break;
      case 'u': {
        const auto items = pop_to_mark();
        extend(Object::dict, items);
      } break;
      case 'c': {
        const std::string_view module = line(), name = line();
        global(module, name);
      } break;
      case '\x93':
        global_from_stack();
        break;
      case '\x92':  // with keyword arguments, which nothing that we know has
        pop();
        [[fallthrough]];
      case '\x81':  // a new object of a class
      case 'R':
        call();
        break;
      case 'b': {  // the state of a called object, as OrderedDict's _metadata
        const Ref state = pop();
        if (top().kind != Object::call) damaged("sets the state of something that has none");
        top().state = state;
      } break;
      case 'Q': {
        const Ref id = pop();
        push(Object::persistent).items = {id};
      } break;
      case 'q':
        put(number(1));
        break;
      case 'r':
        put(number(4));
        break;
      case '\x94':
        put(memo_.size());
        break;
      case 'h':
        get(number(1));
        break;
      case 'j':
        get(number(4));
        break;
      default:
        damaged("uses opcode ", int(uint8_t(code)), ", which no state dict needs");
    }
    return false;
  }

  std::span<const char> bytes_;
  const std::string& name_;
  size_t at_ = 0;
  Pickle pickle_;
  std::vector<Ref> stack_;
  std::vector<size_t> marks_;  // heights of the stack
  std::unordered_map<uint64_t, Ref> memo_;
};

template <class T>
void put(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

}  // namespace

Pickle parse(std::span<const char> bytes, const std::string& name, size_t* used) {
  Machine machine(bytes, name);
  Pickle pickle = machine.run();
  if (used) *used = machine.used();
  return pickle;
}

Writer& Writer::integer(int64_t i) {
  if (i == int32_t(i)) {
    op('J');
    put(bytes_, int32_t(i));
  } else {
    op('\x8a').op(8);
    put(bytes_, i);
  }
  return *this;
}

Writer& Writer::real(double d) {
  op('G');
  put(bytes_, __builtin_bswap64(std::bit_cast<uint64_t>(d)));
  return *this;
}

Writer& Writer::text(std::string_view s) {
  if (s.size() > 0xffffffff) fail(ErrorKind::usage, "[pickle] a text of ", s.size(), " bytes");
  op('X');
  put(bytes_, uint32_t(s.size()));
  bytes_ += s;
  return *this;
}

Writer& Writer::global(std::string_view both) {
  const size_t space = both.find(' ');
  op('c');
  bytes_ += both.substr(0, space);
  op('\n');
  bytes_ += both.substr(space + 1);
  return op('\n');
}

}  // namespace espalier::pickle
