// NCHW: source rows as lines, in which neighbouring members of a class stand side by side.
// No include guard: compiled once per instruction set, see each_isa.h.

// A source row as a line: residues 0, 1, ... of the step, `length` apart. A step of one has one
// residue, the row itself. Tap::position says where a tap stands in it.
struct LineLayout {
  int64_t step;
  int64_t residues;
  int64_t length;
  int64_t elements() const { return residues * length; }
};

DW_INLINE LineLayout line_layout(const Gather& across) {
  return {across.source_step, min64(across.source_step, across.sources),
          ceil_div(across.sources, across.source_step)};
}

// Whether rows of S can be used as they are, without conversion.
template <class S>
constexpr bool kComputed = sizeof(S) == sizeof(Compute<S>);

template <class S>
DW_INLINE bool lines_in_place(const Gather& across) {
  return kComputed<S> && across.source_step == 1;
}

// Writes one source row as a line of the compute type.
template <class S>
DW_INLINE void write_line(const S* row, int64_t sources, const LineLayout& layout,
                          Compute<S>* line) {
  constexpr int kWidth = kLanes<Compute<S>>;
  for (int64_t r = 0; r < layout.residues; ++r, line += layout.length) {
    int64_t i = 0;
    if (layout.step == 1) {
      for (; i + kWidth <= sources; i += kWidth) store(line + i, load(row + i));
    }
    for (; r + i * layout.step < sources; ++i) line[i] = to_compute(row[r + i * layout.step]);
  }
}

// The lines of source rows [begin, end) of a plane: the rows themselves, or copies in `scratch`.
template <class S>
struct Lines {
  const Compute<S>* first;  // the line of source row `begin`
  int64_t stride;
  int64_t begin;
  DW_INLINE const Compute<S>* line(int64_t row) const { return first + (row - begin) * stride; }
};

template <class S>
DW_INLINE Lines<S> lines_of(const S* plane, const Gather& across, Range rows, Compute<S>* scratch) {
  if (lines_in_place<S>(across)) {
    return {reinterpret_cast<const Compute<S>*>(plane), across.sources, 0};
  }
  const LineLayout layout = line_layout(across);
  for (int64_t i = rows.begin; i < rows.end; ++i) {
    write_line(plane + i * across.sources, across.sources, layout,
               scratch + (i - rows.begin) * layout.elements());
  }
  return {scratch, layout.elements(), rows.begin};
}

// How many elements of scratch the lines of `rows` source rows need.
template <class S>
int64_t line_elements(const Gather& across, int64_t rows) {
  return lines_in_place<S>(across) ? 0 : rows * line_layout(across).elements();
}

// The source rows that destination rows [begin, end) meet.
inline Range source_rows_of(const AxisPlan& rows, int64_t begin, int64_t end) {
  Range met = {rows.gather.sources, 0};
  for (int64_t d = begin; d < end; ++d) {
    const int64_t base = d / rows.gather.classes * rows.gather.source_step;
    const Range valid = rows.of_destination[d];
    if (valid.begin == valid.end) continue;
    const int64_t first = base + rows.taps[valid.begin].offset;
    const int64_t last = base + rows.taps[valid.end - 1].offset;
    met = {min64(met.begin, min64(first, last)), max64(met.end, max64(first, last) + 1)};
  }
  return met.begin < met.end ? met : Range{0, 0};
}
