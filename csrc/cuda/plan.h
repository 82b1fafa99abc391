// Launch plans: which thread owns which part of a result. Pure functions, host and device.
#pragma once
#include <cstdint>

#include "lattice.h"
#include "slab.h"

namespace tfcompat_dw::cuda {

constexpr int kThreads = 256;
constexpr int kBlocksPerProcessor = 2;  // leaves 128 registers to a thread
constexpr int kBlocksOfAnyFilter = 4;  // leaves 64; left to itself the compiler takes 40 and spills

// A number that a kernel divides by: the host works out what to multiply with instead.
// (Granlund and Montgomery 1994, Division by Invariant Integers using Multiplication, figure 4.1.)
class Divisor {
 public:
  Divisor(int64_t value = 1) : value_(static_cast<uint32_t>(value)) {
    while (int64_t{1} << shift_ < value) ++shift_;
    const uint64_t above = (uint64_t{1} << shift_) - value_;
    magic_ = static_cast<uint32_t>((above << 32) / value_ + 1);
  }
  DW_HOST_DEVICE operator uint32_t() const { return value_; }
  // index is below 2^31: the grid counts no further.
  DW_HOST_DEVICE uint32_t quotient(uint32_t index) const {
    return (static_cast<uint32_t>(uint64_t{index} * magic_ >> 32) + index) >> shift_;
  }

 private:
  uint32_t value_, magic_, shift_ = 0;
};

// The threads of a block are a box of lanes x columns x rows x images; the blocks count through
// classes, channels, columns, rows and images, in this order.
struct TilePlan {
  int32_t tile_rows, tile_cols;  // destinations of one thread
  Divisor lanes, cols, rows, images;
  Divisor row_classes, col_classes;
  Divisor lane_blocks, col_blocks, row_blocks, image_blocks;

  int threads() const { return static_cast<int>(lanes * cols * rows * images); }
  double blocks() const {  // a double: more than the grid can hold is refused by the caller
    return double(row_classes) * col_classes * lane_blocks * col_blocks * row_blocks * image_blocks;
  }
};

// The next digit of an index whose digits count up to `count`.
DW_HOST_DEVICE inline int32_t take_digit(uint32_t& index, const Divisor& count) {
  const uint32_t rest = count.quotient(index);
  const uint32_t digit = index - rest * count;
  index = rest;
  return static_cast<int32_t>(digit);
}

struct TilePosition {
  int32_t row_class, col_class;
  int64_t vector;  // the thread's V channels
  int64_t image;
  int64_t row, col;  // its first destination, counted on the lattice
};

DW_HOST_DEVICE inline TilePosition tile_position(const TilePlan& plan, uint32_t block,
                                                 uint32_t thread) {
  const auto position = [&](const Divisor& blocks, const Divisor& side) {
    const int64_t first = static_cast<int64_t>(take_digit(block, blocks)) * side;
    return first + take_digit(thread, side);
  };
  TilePosition at;
  at.col_class = take_digit(block, plan.col_classes);
  at.row_class = take_digit(block, plan.row_classes);
  at.vector = position(plan.lane_blocks, plan.lanes);
  at.col = position(plan.col_blocks, plan.cols) * plan.tile_cols;
  at.row = position(plan.row_blocks, plan.rows) * plan.tile_rows;
  at.image = position(plan.image_blocks, plan.images);
  return at;
}

// The smallest power of two that holds `count`, but not more than 2^most: its logarithm.
inline int32_t log_up_to(int64_t count, int32_t most) {
  int32_t log = 0;
  while (log < most && (int64_t{1} << log) < count) ++log;
  return log;
}

// Blocks of `side` that hold `count`; the grid could not count more than are told.
inline uint32_t blocks_of(int64_t count, int32_t side) {
  return static_cast<uint32_t>(min64(ceil_div(count, side), UINT32_MAX));
}

// How many vectors side by side fill a line of 128 bytes; a warp holds 32.
inline int32_t vectors_of_line(int32_t vector_bytes) {
  return vector_bytes > 4 ? 128 / vector_bytes : 32;
}

// Lanes for `vectors` side by side: a line where so many are there, half of that where fewer
// threads then stand idle (36 vectors: 9 x 4 instead of 5 x 8).
inline int32_t log_lanes_for(int64_t vectors, int32_t vector_bytes) {
  const int32_t log = log_up_to(min64(vectors, vectors_of_line(vector_bytes)), 5);
  const auto idle = [vectors](int32_t side) {
    return ceil_div(vectors, int64_t{1} << side) << side;
  };
  return log > 0 && idle(log - 1) < idle(log) ? log - 1 : log;
}

// The side of a box, up to `most`, that leaves the fewest places idle; of equals the largest.
inline int32_t side_for(int64_t count, int32_t most) {
  int32_t best = 1;
  int64_t least = count;
  for (int32_t side = 2; side <= most && side <= count; ++side) {
    const int64_t places = ceil_div(count, side) * side;
    // a larger side may leave an eighth of its places idle: it has the shorter border
    if (places <= least + count / 8) {
      best = side;
      least = min64(least, places);
    }
  }
  return best;
}

struct BoxSides {
  int64_t lanes, cols, rows, images;  // threads
};

// How many tiles of `side` an axis has, in the fullest class.
inline int64_t tiles_of(const GatherAxis& axis, int64_t side) {
  return ceil_div(ceil_div(axis.destinations, axis.step), side);
}

// Tiles of tile_rows x tile_cols destinations in boxes of these sides.
inline TilePlan plan_sides(const GatherAxis& rows, const GatherAxis& cols, int64_t batch,
                           int64_t vectors, int32_t tile_rows, int32_t tile_cols,
                           const BoxSides& sides) {
  TilePlan plan;
  plan.tile_rows = tile_rows;
  plan.tile_cols = tile_cols;
  plan.lanes = sides.lanes;
  plan.cols = sides.cols;
  plan.rows = sides.rows;
  plan.images = sides.images;
  plan.row_classes = rows.classes;
  plan.col_classes = cols.classes;
  plan.lane_blocks = blocks_of(vectors, plan.lanes);
  plan.col_blocks = blocks_of(tiles_of(cols, tile_cols), plan.cols);
  plan.row_blocks = blocks_of(tiles_of(rows, tile_rows), plan.rows);
  plan.image_blocks = blocks_of(batch, plan.images);
  return plan;
}

// ... in boxes of at most `threads`, `most_lanes` and `most_cols`.
inline TilePlan plan_boxes(const GatherAxis& rows, const GatherAxis& cols, int64_t batch,
                           int64_t vectors, int32_t tile_rows, int32_t tile_cols, int32_t threads,
                           int32_t most_lanes, int32_t most_cols) {
  const int32_t lanes = side_for(vectors, most_lanes);
  const int32_t across =
      side_for(tiles_of(cols, tile_cols), static_cast<int32_t>(min64(most_cols, threads / lanes)));
  const int32_t left = threads / lanes / across;
  const int32_t down = side_for(tiles_of(rows, tile_rows), left);
  return plan_sides(rows, cols, batch, vectors, tile_rows, tile_cols,
                    {lanes, across, down, min64(batch, left / down)});
}

// Threads that an H100 holds at 128 registers each, 512 on each of 132 processors. The tests have
// fewer.
#ifndef DW_RESIDENT_THREADS
#define DW_RESIDENT_THREADS 67584
#endif
constexpr double kResidentThreads = DW_RESIDENT_THREADS;

// Strips (strip.h) of `cols` columns and vectors of so many bytes. Long ones read the rows between
// two of them less often and begin less often; many fill the GPU, the last round of blocks as well.
inline TilePlan plan_strips(const GatherAxis& rows, const GatherAxis& cols, int64_t batch,
                            int64_t vectors, int32_t vector_bytes, int32_t strip_cols) {
  const int64_t tall = ceil_div(rows.destinations, rows.step);
  const double columns = double(batch) * vectors * rows.classes * cols.classes *
                         ceil_div(ceil_div(cols.destinations, cols.step), strip_cols);
  constexpr int64_t kLong = 128, kMiddling = 16, kShort = 2;
  int64_t strips = ceil_div(tall, kLong);
  const auto length = [&] { return ceil_div(tall, strips); };
  while (length() > kMiddling && columns * strips < 6 * kResidentThreads) strips *= 2;
  while (length() > kShort && columns * strips < kResidentThreads) strips *= 2;
  // where they do not fill it, small blocks reach more processors
  const int32_t threads = columns * strips < kResidentThreads / 2 ? kThreads / 4 : kThreads;
  return plan_boxes(rows, cols, batch, vectors, static_cast<int32_t>(length()), strip_cols, threads,
                    vectors_of_line(vector_bytes), threads);
}

// ---- channels first -----------------------------------------------------------------------------

// Channels first: a block takes `planes` whole planes (counted on the side with fewer channels), or
// `rows` result rows of one, with all that the other side has for it.
struct PlanePlan {
  int64_t planes;
  int64_t all_planes;
  int64_t rows;
  bool whole;            // all rows: planes side by side are one piece of memory; else each is one
  Divisor bands;         // per plane
  int64_t source_piece;  // elements of shared memory for a piece
  int64_t result_piece;
  int64_t source_slab;  // ... and for all of them; the results follow
  int64_t result_slab;
  double blocks;  // 0: shared memory holds not even one row
};

// Of shared memory for a block: an H100 has room for six, registers allow two to four.
constexpr int64_t kPlaneBytes = 32 << 10;

// Element counts of the two slabs for `rows` result rows of `planes` planes each.
template <class T>
inline void size_slabs(const GatherAxis& row_axis, const GatherAxis& col_axis, int64_t multiplier,
                       PlanePlan& plan) {
  plan.whole = plan.rows == row_axis.destinations;
  const int64_t source_planes = plan.planes * (row_axis.forward ? 1 : multiplier);
  const int64_t result_planes = plan.planes * (row_axis.forward ? multiplier : 1);
  const int64_t source_rows =
      plan.whole ? row_axis.sources : sources_in_sight(row_axis, row_axis, plan.rows);
  const auto size = [&](int64_t planes, int64_t elements, int64_t& piece) {
    piece = slab_size<T>(plan.whole ? planes * elements : elements);
    return plan.whole ? piece : planes * piece;
  };
  plan.source_slab = size(source_planes, source_rows * col_axis.sources, plan.source_piece);
  plan.result_slab = size(result_planes, plan.rows * col_axis.destinations, plan.result_piece);
}

template <class T>
inline PlanePlan plan_planes(const GatherAxis& row_axis, const GatherAxis& col_axis, int64_t batch,
                             int64_t channels, int64_t multiplier) {
  PlanePlan plan = {};
  plan.all_planes = batch * channels;
  const auto bytes = [&](int64_t planes, int64_t rows) {
    plan.planes = planes;
    plan.rows = rows;
    size_slabs<T>(row_axis, col_axis, multiplier, plan);
    return (plan.source_slab + plan.result_slab) * static_cast<int64_t>(sizeof(T));
  };
  // sizes of one row or plane that could overflow the products above do not fit anyway
  constexpr int64_t kMany = kSharedUnasked;
  if (row_axis.sources > kMany * kMany || multiplier > kMany || col_axis.sources > kMany ||
      col_axis.destinations > kMany || bytes(1, 1) > kSharedUnasked) {
    return plan;
  }
  const int64_t tall = row_axis.destinations;
  if (tall <= kMany && bytes(1, tall) <= kPlaneBytes) {
    int64_t planes = max64(1, kPlaneBytes / bytes(1, tall));
    planes = min64(planes, plan.all_planes);
    while (planes > 1 && bytes(planes, tall) > kPlaneBytes) --planes;
    if (planes > 16) {  // a power of two: each plane has as many threads, and none is left over
      while (planes & (planes - 1)) planes &= planes - 1;
    }
    bytes(planes, tall);
  } else {
    int64_t rows = 1;
    while (rows * 2 < tall && bytes(1, rows * 2) <= kPlaneBytes) rows *= 2;
    rows = ceil_div(tall, ceil_div(tall, rows));  // bands of one height
    bytes(1, rows);
  }
  plan.bands = blocks_of(tall, static_cast<int32_t>(plan.rows));
  plan.blocks = double(ceil_div(plan.all_planes, plan.planes)) * plan.bands;
  return plan;
}

// The strips (strip.h) of a plane, or of a band of it: threads side by side take columns side by
// side.
struct BandStrips {
  int32_t length;  // rows of a strip
  int32_t cols;
  int32_t row_step, col_step;
  Divisor groups, col_classes, segments, row_classes;

  DW_HOST_DEVICE int32_t count() const {
    return static_cast<int32_t>(groups * col_classes * segments * row_classes);
  }
};

// How long strips of `rows` are, `side_by_side` of them, so that `threads` are done soonest: each
// takes as many strips as there are rounds, and begins each of them.
inline int64_t strip_length(int64_t rows, int64_t side_by_side, int64_t threads) {
  constexpr int64_t kBegin = 6;  // rows that take as long: those above the first, weights, places
  int64_t best = rows, least = INT64_MAX;
  const int64_t fewest = ceil_div(side_by_side, threads);
  for (int64_t rounds = fewest; rounds < fewest + 8; ++rounds) {
    const int64_t segments = min64(rows, rounds * threads / side_by_side);
    const int64_t length = ceil_div(rows, segments);
    if (rounds * (length + kBegin) < least) {
      least = rounds * (length + kBegin);
      best = length;
    }
    if (segments == rows) break;
  }
  return best;
}

// For `threads` that share a plane.
inline BandStrips band_strips(int64_t tall, int64_t wide, int32_t row_step, int32_t col_step,
                              int32_t strip_cols, int64_t threads) {
  BandStrips strips;
  strips.cols = strip_cols;
  strips.row_step = row_step;
  strips.col_step = col_step;
  strips.row_classes = min64(row_step, tall);
  strips.col_classes = min64(col_step, wide);
  strips.groups = ceil_div(ceil_div(wide, col_step), strip_cols);
  const int64_t rows = ceil_div(tall, row_step);
  const int64_t side_by_side = int64_t{strips.groups} * strips.col_classes * strips.row_classes;
  const int64_t length = strip_length(rows, side_by_side, threads);
  strips.length = static_cast<int32_t>(length);
  strips.segments = ceil_div(rows, length);
  return strips;
}

struct BandStrip {
  int32_t plane;
  int32_t row;  // its first, counted from the band's
  int32_t col;
};

DW_HOST_DEVICE inline BandStrip band_strip(const BandStrips& strips, uint32_t index) {
  BandStrip at;
  const int32_t j = take_digit(index, strips.groups) * strips.cols;
  at.col = take_digit(index, strips.col_classes) + j * strips.col_step;
  const int32_t i = take_digit(index, strips.segments) * strips.length;
  at.row = take_digit(index, strips.row_classes) + i * strips.row_step;
  at.plane = static_cast<int32_t>(index);
  return at;
}

// ---- filter gradient: how the sums are split, from the shape alone ------------------------------

// Eight for each of the 132 processors of an H100. The tests use fewer.
#ifndef DW_FILTER_BLOCKS
#define DW_FILTER_BLOCKS 1056
#endif
constexpr int64_t kFilterBlocks = DW_FILTER_BLOCKS;

// Channels last: units are walks of `rows` output rows and `cols` columns.
struct FilterPlan {
  int32_t log_lanes;
  Divisor lane_blocks, tap_blocks;
  uint32_t splits;
  Divisor strips, col_classes, segments, row_classes;
  int32_t rows, cols, rounds;
  uint32_t units;
  double blocks;  // 0: there are more units than can be counted
};

// At most as many splits as keep the partial sums within an eighth of the input's bytes.
inline int64_t most_splits(int64_t input_bytes, int64_t partial_bytes) {
  return max64(1, input_bytes / 8 / max64(1, partial_bytes));
}

inline FilterPlan plan_filter(const GatherAxis& rows, const GatherAxis& cols, int64_t batch,
                              int64_t vectors, int32_t vector_bytes, int32_t walk_cols,
                              uint32_t tap_blocks, int64_t most_splits) {
  FilterPlan plan = {};
  plan.log_lanes = log_lanes_for(vectors, vector_bytes);
  plan.lane_blocks = blocks_of(vectors, 1 << plan.log_lanes);
  plan.tap_blocks = tap_blocks;
  const int64_t tall = ceil_div(rows.destinations, rows.step);
  const int64_t strips = ceil_div(ceil_div(cols.destinations, cols.step), walk_cols);
  const int64_t positions = kThreads >> plan.log_lanes;
  const int64_t others = max64(1, static_cast<int64_t>(plan.lane_blocks) * tap_blocks);
  const int64_t wanted = max64(1, min64(kFilterBlocks / others, most_splits));
  const auto units = [&] {
    return batch * rows.classes * ceil_div(tall, plan.rows) * cols.classes * strips;
  };
  // long walks load the rows between two of them twice less often; short ones fill the GPU
  plan.cols = walk_cols;
  plan.rows = 32;
  while (plan.rows > 2 && units() < wanted * positions) plan.rows /= 2;
  plan.strips = strips;
  plan.col_classes = cols.classes;
  plan.segments = ceil_div(tall, plan.rows);
  plan.row_classes = rows.classes;
  plan.splits = static_cast<uint32_t>(min64(wanted, ceil_div(units(), positions)));
  const int64_t rounds = ceil_div(units(), plan.splits * positions);
  plan.rounds = static_cast<int32_t>(rounds);
  plan.units = static_cast<uint32_t>(units());
  const bool counted = rounds * plan.splits * positions <= INT32_MAX;
  plan.blocks = counted ? double(plan.lane_blocks) * tap_blocks * plan.splits : 0;
  return plan;
}

// Channels first: a unit is a band of rows of `planes` channels of one image.
struct FilterPlanesPlan {
  PlanePlan slabs;
  BandStrips strips;
  uint32_t units;
  int32_t members;  // threads that share an output channel
  Divisor groups, tap_blocks;
  uint32_t splits;
  double blocks;  // 0: shared memory holds not even one row, or units cannot be counted
};

template <class T>
inline FilterPlanesPlan plan_filter_planes(const GatherAxis& rows, const GatherAxis& cols,
                                           int64_t batch, int64_t channels, int64_t multiplier,
                                           int32_t strip_cols, uint32_t tap_blocks,
                                           int64_t most_splits) {
  FilterPlanesPlan plan = {};
  PlanePlan& slabs = plan.slabs;
  slabs = plan_planes<T>(rows, cols, 1, channels, multiplier);
  if (slabs.blocks == 0 || multiplier > kThreads) return plan;
  if (slabs.planes * multiplier > kThreads / 8) {  // eight threads for a channel at the least
    slabs.planes = max64(1, kThreads / 8 / multiplier);
    size_slabs<T>(rows, cols, multiplier, slabs);
  }
  plan.members = static_cast<int32_t>(kThreads / (slabs.planes * multiplier));
  plan.strips =
      band_strips(slabs.rows, cols.destinations, rows.step, cols.step, strip_cols, plan.members);
  plan.groups = ceil_div(channels, slabs.planes);
  plan.tap_blocks = tap_blocks;
  const int64_t units = batch * slabs.bands;
  plan.units = static_cast<uint32_t>(units);
  const int64_t others = static_cast<int64_t>(plan.groups) * tap_blocks;
  plan.splits = static_cast<uint32_t>(
      min64(units, max64(1, min64(kFilterBlocks / max64(1, others), most_splits))));
  const bool counted = units <= INT32_MAX;
  plan.blocks = counted ? double(plan.groups) * tap_blocks * plan.splits : 0;
  return plan;
}

constexpr double kMostBlocks = 2147483647;  // of a one-dimensional grid

}  // namespace tfcompat_dw::cuda
