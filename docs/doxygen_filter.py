#!/usr/bin/env python3
# Doxygen's view of a header: the house's comments, which are for readers, in the form that Doxygen collects.
"""Prints a header with its // comments as Doxygen's (docs/Doxyfile names this as its input filter).

- The opening paragraph is the file's.
- A block of comment lines right above a declaration is that declaration's; a comment behind one is its own. The block
  counts for what follows without a blank line, too, where that is an overload, another operator, or named in it.
- What a class or an enumeration says of itself counts for its constructors and for the members that it names; what the
  file's opening paragraph says of `name`, in backticks, for all members of that name. Each where they say nothing
  themselves.
- Lists of rows (ESPALIER_X(X) with #define X) are written out, each under the comment above: `parameter` in it is the
  row's, and a comment in a row is added.
- An opening paragraph that begins with a name and a colon is that class's, too.
- Indented lines of a comment are code.
- What is deleted, a destructor, and a default constructor or assignment without a comment are left out.
"""
import pathlib, re, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def code_of(line):
    """The line without strings' contents and without its comment, and that comment or None."""
    out, i = '', 0
    while i < len(line):
        c = line[i]
        if c == '"' or (c == "'" and not (i and line[i - 1].isalnum())):
            end = i + 1
            while end < len(line) and line[end] != c:
                end += 2 if line[end] == '\\' else 1
            out += c + '_' * (min(end, len(line)) - i - 1) + c
            i = end + 1
        elif line.startswith('//', i):
            return out, line[i + 2:].strip()
        elif line.startswith('/*', i) and '*/' in line[i + 2:]:
            end = line.index('*/', i + 2) + 2
            out += ' ' * (end - i)
            i = end
        else:
            out += c
            i += 1
    return out, None


def bare(line):
    """A comment line's text, as it is indented behind the first space."""
    return re.sub(r'^\s*// ?', '', line).rstrip()


def named(doc, name, function=False):
    """Is it named there? A function whose name could be an ordinary word is written as one: `name`, name() or name:."""
    word = r'(?<!\w)%s' % re.escape(name) + ('' if name.endswith(')') else r'(?!\w)')
    if function and name.isalnum(): word = r'(?<!\w)%s\(|(?<!\w)%s:|`%s`' % ((re.escape(name),) * 3)
    return re.search(word, ' '.join(doc)) is not None


def sentences(doc, fits):
    """Those sentences of a comment, as one line."""
    text = ' '.join(d.strip() for d in doc if not d.startswith('    '))
    return [' '.join(s for s in re.split(r'(?<=[.]) (?!\d)', text) if fits(s))]


def split(text):
    """The parts between commas outside of brackets and strings."""
    parts, depth, start, code = [], 0, 0, code_of(text)[0]
    for i, c in enumerate(code):
        depth += (c in '([{') - (c in ')]}')
        if c == ',' and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return parts + [text[start:].strip()]


def lists():
    """ESPALIER_NAME(X): its rows, from all headers."""
    found = {}
    for room in ('core', 'nn', 'compress', 'data'):
        for header in (ROOT / room).rglob('*.h'):
            for name, body in re.findall(r'^#define (ESPALIER_\w+)\(X\)((?:.*\\\n)*.*)', header.read_text(), re.M):
                found[name] = body.replace('\\\n', '\n').strip().split('\n')
    return found


def expand(lines):
    """Lines with every list of rows written out."""
    known, out, macro, above = None, [], None, []
    i = 0
    while i < len(lines):
        line = lines[i]
        define = re.match(r'#define X\(([^)]*)\)(.*)', line)
        call = re.match(r'\s*(?:(ESPALIER_\w+)\(X\)|(X\(.*\)))$', line)
        if define:
            body = [define[2]]
            while body[-1].rstrip().endswith('\\'):
                body[-1] = body[-1].rstrip()[:-1].rstrip()
                i += 1
                body.append(lines[i])
            macro = [p.strip() for p in define[1].split(',')], [b for b in body if b.strip()]
            above = []
            while out and out[-1].strip().startswith('//'):
                above.insert(0, out.pop())
        elif line.startswith('#undef X'):
            macro = None
        elif call and macro:
            if known is None: known = lists()
            for row in known.get(call[1], []) if call[1] else [call[2]]:
                if not re.match(r'\s*X\(', row): continue
                remark = re.search(r'/\* (.*?) \*/\s*$', row)
                row = row[:remark.start()] if remark else row
                arguments = split(row.strip()[2:-1])
                names = dict(zip(macro[0], arguments))
                if '...' in names or macro[0][-1] == '...':
                    names.pop('...', 0)
                    names['__VA_ARGS__'] = ', '.join(arguments[len(macro[0]) - 1:])
                out += [re.sub(r'`(\w+)`', lambda m: '`%s`' % names.get(m[1], m[1]), a) for a in above]
                if remark: out.append(f'// {remark[1][0].upper()}{remark[1][1:]}.')
                for b in macro[1]:
                    b = re.sub(r'(?<!#)#(\w+)', lambda m: '"%s"' % names.get(m[1], m[1]), b)
                    b = re.sub(r'\w+', lambda m: names.get(m[0], m[0]), b)
                    out.append(re.sub(r'\s*##\s*', '', b))
        else:
            out.append(line)
        i += 1
    return out


def escaped(text):
    """A comment's words, none of which means anything to Doxygen but what stands in backticks."""
    starts = '\\' if re.match(r'[-+] |\d+\. ', text) else ''
    parts = re.split(r'`([^`]*)`', text)

    def escape(t):
        t = re.sub(r'([\\@<>#%$_~|`])', r'\\\1', t.replace('&', '&amp;'))
        t = t.replace('"', '&quot;').replace('*', '&lowast;')
        return re.sub(r'\bal\.( |$)', 'al.&nbsp;', t)  # which ends no sentence

    return starts + ''.join('<tt>%s</tt>' % escape(p) if i % 2 else escape(p) for i, p in enumerate(parts))


TEMPLATE = re.compile(r'template\s*<.*?>\s*(?=\w)')
OPENS = re.compile(r'\s*(?:template\s*<.*?>\s*)?(namespace|class|struct|union|enum)\b')
FUNCTION = re.compile(r'(operator\s*\(\)|operator\S+|~?\w+)\s*\(')


def opening(text):
    """What a statement that ends with a brace opens: namespace, class, struct, union; else ''."""
    kind = OPENS.match(text)
    return kind[1] if kind and kind[1] != 'enum' and '=' not in re.sub(r'<.*?>', '', text) else ''


class Scope:
    def __init__(self, kind, name='', doc=()):
        self.kind, self.name, self.doc = kind, name, list(doc)


class Filter:
    def __init__(self, text):
        self.lines = expand(text.split('\n'))
        self.out, self.scopes = [], [Scope('namespace')]
        self.group, self.first = [], ''  # the last comment above a declaration, and that declaration's name
        self.opening = []

    def emit(self, doc, lines, indent):
        code = False
        for d in doc:
            if re.match(r'clang-format o', d): continue
            indented = d.startswith('    ') or (code and not d)
            if indented != code: self.out.append(f'{indent}/// @' + ('code' if indented else 'endcode'))
            code = indented
            self.out.append(f'{indent}/// {d if code else escaped(d)}'.rstrip())
        if code: self.out.append(f'{indent}/// @endcode')
        self.out += lines

    def statement(self, i):
        """From line i on: its last line, its code in one piece, the comments behind it, what it opens or ''."""
        text, comments, parens, braces, closed = '', [], 0, 0, False
        for j in range(i, len(self.lines)):
            if self.lines[j].startswith('#'): continue
            code, comment = code_of(self.lines[j])
            if comment and braces == 0: comments.append(comment)
            for k, c in enumerate(code):
                if closed:
                    if c.isspace(): continue
                    closed = False
                    if c not in ',{;': return j, text, comments, ''
                text += c
                if c in '([': parens += 1
                if c in ')]': parens -= 1
                if c == '{':
                    if braces == 0 and parens == 0:
                        opens = opening(text)
                        if opens and not code[k + 1:].strip().rstrip(';').endswith('}'): return j, text, comments, opens
                    braces += 1
                if c == '}':
                    braces -= 1
                    if braces == 0 and parens == 0: closed = True
                if c == ';' and braces == 0 and parens == 0: return j, text, comments, ''
            text += '\n'
            if closed:
                following = next((l.strip() for l in self.lines[j + 1:j + 2]), '')
                if not following or following[0] not in '{,;': return j, text, comments, ''
        return len(self.lines) - 1, text, comments, ''

    def variables(self, text):
        """Of a data member's declaration: the declared names, and for each a declaration of its own."""
        mask = text.rstrip('; \n')
        length = len(mask)
        for brackets in (r'<[^<>;]*>', r'\{[^{}]*\}', r'\([^()]*\)', r'<[^<>;]*>'):
            while re.search(brackets, mask): mask = re.sub(brackets, lambda m: '_' * len(m[0]), mask)
        pointer = re.search(r'\(\*(\w+)\)\s*\(', text.split('{')[0])
        if pointer: return [pointer[1]], [text]
        ends = [m.start() for m in re.finditer(',', mask)] + [length]
        names, each, begin, kind = [], [], 0, ''
        for end in ends:
            head = re.sub(r'\s*(=.*|\[[^\]]*\]\s*)$', '', mask[begin:end], flags=re.S)
            last = re.search(r'\w+$', head)
            if not last or (begin == 0 and last.start() == 0): return [], []
            at = begin + last.start()
            name = re.match(r'\w+', text[at:])
            if not name: return [], []
            names.append(name[0])
            if begin == 0: kind = text[:at].rstrip(' *')
            each.append(f'{kind} {text[len(kind) if begin == 0 else begin:end].strip()};')
            begin = end + 1
        return names, each

    def names(self, text):
        return self.variables(text)[0]

    def opens_with(self, name):
        """The opening paragraph, where it begins with the name and a colon, as one of a class does."""
        head = re.match(r'[\w ,]+:(?= )', ' '.join(self.opening))
        return self.opening if head and name and named([head[0][:-1]], name) and re.match('[A-Z]', name) else []

    def name_of(self, text):
        """Of a function, class or type; else of the first data member."""
        if re.search(r'\boperator\b', text): return 'operator'
        text = TEMPLATE.sub('', text, 1)
        opens = OPENS.match(text)
        if opens: return (re.findall(r'\w+', re.split(r'[{:](?!:)|\bfinal\b', text)[0]) or [''])[-1]
        function = re.search(r'(\w+)\s*\(', text.split('=')[0])
        if re.match(r'\s*using\b', text): return re.findall(r'\w+', text)[1]
        return function[1] if function else (self.names(text) or [''])[0]

    def carried(self, text):
        """The comment of the declarations before, where it counts for this one."""
        name = text[1:] if text[0] == '#' else self.name_of(text)
        function = '(' in text.split('=')[0] and not OPENS.match(text)
        return self.group if name and (name == self.first or named(self.group, name, function)) else []

    def inherited(self, text):
        """What speaks for a declaration that has no comment of its own."""
        scope = self.scopes[-1]
        if scope.kind not in ('class', 'struct'): return []
        flat = TEMPLATE.sub('', text, 1)
        if '(*' in flat.split('{')[0]: flat = ''  # a pointer to a function
        function = FUNCTION.search(flat if 'operator' in flat else flat.split('=')[0])
        if function:
            name = function[1].replace(' ', '')
            if name == scope.name: return scope.doc
            if named(scope.doc, name, True): return sentences(scope.doc, lambda s: named([s], name, True))
        else:
            name = None
            names = self.names(text)
            if names and all(named(scope.doc, n) for n in names):
                return sentences(scope.doc, lambda s: any(named([s], n) for n in names))
        for n in [name] if name else self.names(text):
            found = sentences(self.opening, lambda s: re.search(r'`%s[`(]' % re.escape(n), s))
            if found != ['']: return found
        return []

    def enumeration(self, doc, first, last, indent):
        text = []
        for line in self.lines[first:last + 1]:
            code, comment = code_of(line)
            if line.strip().startswith('//'):
                text.append(re.match(r'\s*', line)[0] + '/// ' + escaped(comment))
            else:
                text.append(line[:len(code)].rstrip() + (f'  ///< {escaped(comment)}' if comment else ''))
        body = '\n'.join(text)
        head, values = body.split('{', 1)
        values, tail = values.rsplit('}', 1)
        out = []
        for value in values.split('\n'):
            own = '///' in value or (out and out[-1].strip().startswith('/// '))
            if own: out.append(value); continue
            for v in split(value):
                if v and named(doc, re.match(r'\w+', v)[0]): out += [f'{indent}  /// {escaped(d)}' for d in doc]
                if v: out.append(f'{indent}  {v},')
        self.emit(doc, (head + '{\n' + '\n'.join(out) + '\n' + indent + '};').split('\n'), indent)
        name = re.search(r'enum (?:class )?(?:[A-Z]+ )?(\w+)', head)
        if tail.strip(' ;') and name: self.emit(doc, [f'{indent}{name[1]} {tail.strip()}'], indent)

    def run(self):
        i, block, lines = 0, [], self.lines
        while i < len(lines) and lines[i].startswith('//'):
            self.opening.append(bare(lines[i]))
            i += 1
        self.emit([], ['/// @file'], '')
        self.emit(self.opening, [], '')
        while i < len(lines):
            line, strip = lines[i], lines[i].strip()
            indent = re.match(r'\s*', line)[0]
            if not strip:
                self.group, block = [], []
                self.out.append('')
            elif strip.startswith('//'):
                if not bare(line).startswith('---- '): block.append(bare(line))  # a heading
                self.group = []
            elif line.startswith('#'):
                j = i
                while lines[j].endswith('\\'): j += 1
                define = re.match(r'#\s*define (?!X\()(\w+)', line)
                if define and block: self.group, self.first, block = block, define[1], []
                elif not re.match(r'#\s*(if|define)', line): block = []
                self.emit(self.carried('#' + define[1]) if define else [],
                          [re.sub(r'//.*', '', l) for l in lines[i:j + 1]], '')
                i = j
            elif re.match(r'(public|protected|private):', strip):
                self.out.append(line)
                self.group, block = [], []
            elif strip.startswith('}'):
                gone = self.scopes.pop()
                self.out.append(code_of(line)[0])
                self.group, self.first, block = (gone.doc if gone.kind != 'namespace' else []), gone.name, []
            else:
                last, text, trailing, opens = self.statement(i)
                if opens:
                    name, doc = self.name_of(text), block + trailing
                    if opens != 'namespace':
                        doc = doc or self.carried(text)
                        if not doc and len(self.scopes) == 2: doc = self.opens_with(name)
                    self.emit(doc, [code_of(l)[0] for l in lines[i:last + 1]], indent)
                    self.scopes.append(Scope(opens, name, doc))
                    self.group, block = [], []
                elif re.match(r'\s*enum\b', text):
                    doc = block + trailing if trailing and last == i else block or self.carried(text)
                    self.enumeration(doc, i, last, indent)
                    if block: self.group, self.first = block, self.name_of(text)
                    block = []
                else:
                    while last + 1 < len(lines) and trailing and re.match(indent + r'   +//', lines[last + 1]):
                        last += 1
                        trailing.append(bare(lines[last]).strip())
                    doc = block + trailing if trailing else block or self.carried(text)
                    quiet = r'=\s*delete\s*;|~\w+\(' if block else r'=\s*(delete|default)\s*;|~\w+\('
                    if not trailing and re.search(quiet, text):
                        if block: self.group, self.first = block, self.name_of(text)
                        i, block = last + 1, []
                        continue
                    if not doc: doc = self.inherited(text)
                    body = [l if code_of(l)[1] is None else code_of(l)[0] for l in lines[i:last + 1]]
                    each = [] if re.match(r'\s*(using|friend|template)\b', text) else self.variables(text)[1]
                    if len(each) > 1:  # Doxygen would give the comment to the first
                        for e in each: self.emit(doc or self.inherited(e), [indent + e.strip()], indent)
                    else:
                        self.emit(doc, body, indent)
                    if block: self.group, self.first = block, self.name_of(text)
                    block = []
                i = last
            i += 1
        return '\n'.join(self.out) + '\n'


def main():
    if len(sys.argv) != 2: sys.exit(__doc__)
    print(Filter(pathlib.Path(sys.argv[1]).read_text()).run(), end='')


if __name__ == '__main__':
    main()
