// What the kernels are given and how they are called. No torch, no std.
#pragma once
#include "../window.h"

// GCC on x86 compiles the kernels once per instruction set (each_isa.h).
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define DW_X86_SETS 1
#endif

#ifdef __SANITIZE_ADDRESS__
extern "C" void* __asan_region_is_poisoned(void* begin, __SIZE_TYPE__ size);
#endif

namespace tfcompat_dw::cpu {

// AddressSanitizer does not look into the instructions that touch some lanes of a vector, or that
// write past the caches: they ask it.
inline void sanitized([[maybe_unused]] const void* begin, [[maybe_unused]] int64_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  if (__asan_region_is_poisoned(const_cast<void*>(begin), static_cast<__SIZE_TYPE__>(bytes)))
    __builtin_trap();
#endif
}

// Members of a tile (tiles.h) at the most, and of a strip (strips.h) at the least.
constexpr int kMembers = 7;
constexpr int kLeastOfStrip = 4;

// 16-bit storage types: bits only, arithmetic is done in float32 (simd.h).
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

// The members of one class (window.h) of one axis, with the taps through which they meet sources.
// Member q is destination `first + q * pitch`; through tap t, which is kernel position
// `index + t * index_step`, it sees position `position + q * step + t * spacing` of the sources.
// Members and taps at both ends that meet no source are left out.
struct TapClass {
  int64_t first;
  int64_t pitch;
  int64_t members;
  int64_t taps;
  int64_t index;
  int64_t index_step;
  int64_t position;
  int64_t step;
  int64_t spacing;
  int64_t parts;  // spacing / gcd(spacing, step), see Sweep

  // Points from member to member of a sweep: step / gcd(spacing, step).
  int64_t point_step() const { return step * parts / spacing; }
};

// The part of a class whose destinations lie in a range.
inline TapClass restricted(TapClass taps, Range destinations) {
  const int64_t begin = max64(0, ceil_div(destinations.begin - taps.first, taps.pitch));
  const int64_t end = min64(taps.members, ceil_div(destinations.end - taps.first, taps.pitch));
  taps.first += begin * taps.pitch;
  taps.position += begin * taps.step;
  taps.members = max64(0, end - begin);
  return taps;
}

// Members of a class that take their taps from neighbouring points of one grid: every parts-th
// member of a class. Through tap t member q sees point `at + q * step + t` of the grid
// `origin`, `origin + spacing`, ... of the sources, which has `points` points; the rest as above.
//
// Dilation 2 and stride 1, for example: even members see even sources and odd members odd ones, so
// there are two sweeps, each of them a dense convolution with step 1.
struct Sweep {
  int64_t first;
  int64_t pitch;
  int64_t members;
  int64_t taps;
  int64_t index;
  int64_t index_step;
  int64_t at;
  int64_t step;
  int64_t origin;
  int64_t spacing;
  int64_t points;
};

inline Sweep sweep_of(const TapClass& taps, int64_t part, int64_t sources) {
  const int64_t position = taps.position + part * taps.step;
  const int64_t origin = floor_mod(position, taps.spacing);
  return {taps.first + part * taps.pitch,
          taps.parts * taps.pitch,
          ceil_div(taps.members - part, taps.parts),
          taps.taps,
          taps.index,
          taps.index_step,
          floor_div(position, taps.spacing),
          taps.point_step(),
          origin,
          taps.spacing,
          ceil_div(max64(sources - origin, 0), taps.spacing)};
}

// Members [begin, begin + count) of a sweep.
inline Sweep members_of(Sweep sweep, int64_t begin, int64_t count) {
  sweep.first += begin * sweep.pitch;
  sweep.at += begin * sweep.step;
  sweep.members = count;
  return sweep;
}

// One axis of a pass, and how its destinations are cut.
struct AxisPlan {
  Axis axis;
  Gather gather;
  const TapClass* classes;
  int64_t class_count;
  int64_t most_taps;  // of a class
  bool covered;       // every destination is a member of a class
  int64_t block;      // destinations of a share

  int64_t blocks() const { return ceil_div(gather.destinations, block); }
  // Sweeps of a block at the most.
  int64_t most_sweeps() const {
    int64_t sweeps = 0;
    for (int64_t i = 0; i < class_count; ++i) {
      const int64_t members = min64(classes[i].members, ceil_div(block, classes[i].pitch));
      sweeps += min64(classes[i].parts, members);
    }
    return sweeps;
  }
  Range block_range(int64_t i) const {
    return {i * block, min64((i + 1) * block, gather.destinations)};
  }
};

// How the columns of a share are laid out in a packed line (lines.h).
struct LineForm {
  int64_t begin;        // the source column that the line begins with
  int64_t step;         // source columns from column to column of the line
  int64_t phases;       // lines that source columns are dealt to, one for each residue of the step
  int64_t spacing;      // source columns from tap to tap
  int64_t interleaved;  // values of a column: 1, or all output channels of an NHWC pixel
  // in values
  int64_t width;  // from plane to plane, where a few stand side by side
  int64_t lanes;  // of a line of results, all planes
  int64_t pitch;  // of one phase's line

  // Where tap t of member 0 stands.
  int64_t offset(const TapClass& cols, int64_t t) const {
    return t % phases * pitch + (cols.position - begin + t * cols.spacing) / step * interleaved;
  }
};

// What a vector holds: adjacent channels; or adjacent columns, packed into lines (lines.h) or where
// they lie (plane_strips.h). Channels may alternate in those: NHWC memory of few.
enum class Form { kChannels, kColumns, kPlanes };

// All that follows from the problem, and from whether its filter is finite. A share of the work is
// one image, some channels, a block of destination rows and a block of destination columns.
struct Plan {
  Problem problem;
  AxisPlan rows;
  AxisPlan cols;
  int64_t chunk;  // input channels of a share
  Form form;
  bool sums_copies;  // the input gradient of a channel is the sum over its copies
  // source rows in another form than the tensor's (rows.h)
  bool copies_rows;  // even where the tensor's would do
  int64_t row_slots;
  bool slot_by_tap;
  bool whole_rows;
  bool fetches;         // the tensors exceed the level-2 cache: what is read is fetched ahead
  bool far;             // they exceed what caches hold: results are written past them
  bool row_pairs;       // whether neighbouring destination rows are computed together
  bool strips;          // strips (strips.h) instead of tiles
  bool own_form;        // strips: of the tensors as they are
  int64_t interleaved;  // vectors of columns: output channels that alternate (NHWC), or 1
  // packed lines (lines.h)
  const LineForm* forms;  // [column blocks]
  int64_t most_lanes;     // of them
  int64_t line_pitch;     // phases * pitch at the most
  int64_t block_members;  // rows of results computed at once; of planes, too
  int64_t block_lines;    // source rows that they meet, at the most
  bool packs;             // whether packed lines stay in proportion to the planes

  int64_t chunks() const { return ceil_div(problem.channels, chunk); }
  // Channels of the last chunk. It may need more scratch than a whole one: narrower than a vector.
  int64_t last_chunk() const { return (problem.channels - 1) % chunk + 1; }
  // With how many different channels vectors of so many lanes start, where channels alternate.
  int64_t starts(int64_t vector) const {
    int64_t count = 1;
    while (count * vector % interleaved != 0) ++count;
    return count;
  }
  int64_t units() const { return problem.batch * rows.blocks() * cols.blocks(); }
};

struct Share {
  int64_t image;
  Range channels;
  Range rows;
  Range cols;
  int64_t col_block;
};

// A unit is what all chunks of channels do alike.
inline Share share_of(const Plan& plan, int64_t unit, int64_t chunk) {
  const int64_t col_block = unit % plan.cols.blocks();
  const int64_t row_block = unit / plan.cols.blocks() % plan.rows.blocks();
  return {unit / plan.cols.blocks() / plan.rows.blocks(),
          {chunk * plan.chunk, min64((chunk + 1) * plan.chunk, plan.problem.channels)},
          plan.rows.block_range(row_block),
          plan.cols.block_range(col_block),
          col_block};
}

// The same where all chunks of an image come before the next unit of it: in the order of NCHW
// memory.
inline Share share_in_order(const Plan& plan, int64_t task) {
  const int64_t blocks = plan.rows.blocks() * plan.cols.blocks();
  const int64_t chunk = task / blocks % plan.chunks();
  return share_of(plan, task / blocks / plan.chunks() * blocks + task % blocks, chunk);
}

// A gathering pass. T is the compute type: float64 for float64, else float32.
struct GatherCall {
  Plan plan;
  const void* source;  // NHWC [n, rows, cols, c] or NCHW [n, c, rows, cols], in problem.dtype
  const void* filter;  // T [kh, kw, lanes]
  const void* bias;    // T [lanes] or null (forward only)
  void* destination;   // as source, in problem.dtype
  bool finite_filter;  // whether padding may be multiplied with the filter (Form::kColumns)
};

// A filter (and bias) gradient. Its units are split into groups; each group sums into its own
// partial result, and the partials are added in the order of the groups.
struct FilterCall {
  Plan plan;
  const void* input;  // as in GatherCall
  const void* grad;
  void* partials;         // T [groups, taps + 1, lanes]; the last row of each is the bias gradient
  void* filter_gradient;  // [kh, kw, lanes] in problem.dtype, or null
  void* bias_gradient;    // [lanes] in problem.dtype, or null
  int64_t group_units;
  int64_t groups;
};

// Tasks are independent; a call runs the piece [begin, end). scratch holds scratch_bytes(call).
struct GatherKernel {
  int64_t (*scratch_bytes)(const GatherCall&);
  void (*run)(const GatherCall&, int64_t begin, int64_t end, void* scratch);  // of units * chunks
};
struct FilterKernel {
  int64_t (*scratch_bytes)(const FilterCall&);
  void (*run)(const FilterCall&, int64_t begin, int64_t end, void* scratch);  // of groups * chunks
  // Adds the partials of lanes [begin, end) of the flat [taps + 1, lanes] result and stores them.
  void (*reduce)(const FilterCall&, int64_t begin, int64_t end);
};

// Hands out parts of a task's scratch, each aligned to a vector; without memory it only counts.
struct Carver {
  char* memory;
  int64_t used;
  template <class P>
  P* take(int64_t count) {
    P* part = memory ? reinterpret_cast<P*>(memory + used) : nullptr;
    used += (count * static_cast<int64_t>(sizeof(P)) + 63) / 64 * 64;
    return part;
  }
};

// One instruction set's kernels, for every dtype and both memory orders.
#define DW_DECLARE_KERNELS(ISA)                                   \
  namespace ISA {                                                 \
  GatherKernel gather(const Plan& plan);                          \
  FilterKernel backward_filter(const Plan& plan);                 \
  void convert_to_compute(DataType, const void*, void*, int64_t); \
  bool all_finite(DataType, const void*, int64_t);                \
  }
DW_DECLARE_KERNELS(baseline)
DW_DECLARE_KERNELS(avx2)
DW_DECLARE_KERNELS(avx512)
namespace avx512bf16 {
GatherKernel gather(const Plan& plan);  // the rest is AVX-512's
}
#undef DW_DECLARE_KERNELS

}  // namespace tfcompat_dw::cpu
