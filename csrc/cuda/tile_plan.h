// The launch plan of gather_tiles.h: which box of tiles a block takes, and how its threads go
// through shared memory. Pure functions.
#pragma once
#include "plan.h"

namespace tfcompat_dw::cuda {

// The tests have less.
#ifndef DW_TILE_BYTES
#define DW_TILE_BYTES kSharedAsked
#endif
constexpr int kTileThreads = 128;
constexpr int kTileBlocks = 4;  // share a processor: leaves 128 registers
constexpr int kTapSide = 3;     // taps are added 3 x 3 at a time
constexpr int kTileRows = 4;    // results of one thread
template <class T, int S>
constexpr int kTileCols = sizeof(T) == 8 || S == 2 ? 4 : 8;

// Planes of a block at the most, where there are many and where there are few.
template <class T>
constexpr int kManySlots = sizeof(T) == 8 ? 8 : 16;
constexpr int kFewSlots = 4;

// Sums from a pixel of a tile in shared memory to the next. The tiles of two threads side by side
// are 8 pixels apart (float64: 4): so they begin in other banks, as far as there are as many.
DW_HOST_DEVICE constexpr int tile_pitch(int slots) { return slots == 4 ? 5 : slots + 2; }

// ... and from a row to the next: two threads one below the other are 4 rows apart (8 at stride 2)
// and as many banks as a pixel has sums, where some step does that.
inline int64_t tile_row_step(int slots, int64_t width, int stride, int64_t sum_bytes) {
  const int64_t banks = 128 / sum_bytes;
  const int64_t pixels = width * tile_pitch(slots);
  for (int64_t step = pixels; step < pixels + 8; ++step) {
    if (kTileRows * stride * step % banks == slots) return step;
  }
  return pixels;
}

// How the threads of a block go through [rows][cols][planes] together, see for_each_place.
struct TileBox {
  int32_t cols;
  Divisor rows, vectors;  // vectors: of planes
  Divisor run;            // places that lie side by side in memory
  uint32_t lines;         // ... and how many such runs there are
  uint32_t groups;        // runs that are taken at once
};

inline TileBox tile_box(bool channels_last, int64_t rows, int64_t cols, int64_t vectors,
                        int64_t threads) {
  TileBox box;
  box.cols = static_cast<int32_t>(cols);
  box.rows = rows;
  box.vectors = vectors;
  box.run = channels_last ? cols * vectors : cols;
  box.lines = static_cast<uint32_t>(channels_last ? rows : rows * vectors);
  box.groups = static_cast<uint32_t>(max64(1, threads / box.run));
  return box;
}

// What a problem asks of a tile.
struct TileShape {
  int32_t slots;       // planes at the most
  int32_t unit;        // planes that stay together
  int32_t vector;      // source planes that may be read at once
  int32_t multiplier;  // planes of each source (forward) or result (input gradient)
  int32_t cols;        // of one thread's results
  int32_t stride;      // of forward
  int64_t sum_bytes;
};

struct GatherTilesPlan {
  TilePlan tiles;
  TileBox seen, made;
  int32_t span;      // filter rows whose sources are held at once, a multiple of kTapSide
  int32_t vector;    // source planes that are read at once
  int32_t row_step;  // of the sources in shared memory
  int64_t shared_bytes;
  double cost;    // see tile_cost
  double blocks;  // 0: shared memory does not hold what a thread sees
};

// Taps of the class with most, in whole steps of kTapSide.
inline int64_t tile_taps(const GatherAxis& axis) {
  const bool classes = !axis.forward && axis.stride > 1;
  const int64_t taps = classes ? ceil_div(axis.kernel, axis.stride) : axis.kernel;
  return ceil_div(taps, kTapSide) * kTapSide;
}

// A box of tiles, and what its threads have in shared memory at once.
struct TileSight {
  int64_t across, down;   // tiles
  int64_t width, height;  // pixels
  int64_t span, steps;    // filter rows at once, and how often
  int64_t row_step, bytes;
  double cost = 0;
};

// What the GPU takes for all boxes of a tensor, in about the time of an instruction of a warp on
// each of its schedulers.
inline double tile_cost(const TileShape& shape, const TileSight& sight, int64_t lanes, int64_t taps,
                        double boxes) {
  constexpr double kTap = 47;  // instructions of a thread for a tap of all its 16 or 32 results
  const double hold = shape.vector > 1 ? 8 : 30;  // ... to bring in a source
  constexpr double kSchedulers = 4, kWarps = 16, kProcessors = kResidentThreads / 32 / kWarps;
  constexpr int64_t kProcessorBytes = 200 << 10;
  const double warps = static_cast<double>(ceil_div(sight.across * sight.down * lanes, 32));
  const double work =
      warps * kTap * taps + hold / 32 * double(sight.steps * sight.width * sight.height * lanes);
  // half of a processor's warps keep its schedulers busy
  const double resident = warps * (kProcessorBytes / sight.bytes);
  const double idle = resident < kWarps / 2 ? kWarps / 2 / resident : 1;
  const double all = boxes * work * idle / (kSchedulers * kProcessors);
  const double alone = work / (warps < kSchedulers ? warps / 2 : kSchedulers / 2);
  return all > alone ? all : alone;
}

// The box with the least cost of those that fit shared memory; across is 0 where none does.
// plane_blocks: of `lanes` planes each.
inline TileSight best_sight(const GatherAxis& rows, const GatherAxis& cols, const TileShape& shape,
                            int64_t lanes, int64_t plane_blocks) {
  const int64_t col_tiles = tiles_of(cols, shape.cols), row_tiles = tiles_of(rows, kTileRows);
  const int64_t row_taps = tile_taps(rows), col_taps = tile_taps(cols);
  TileSight best = {};
  // with few planes more of them side by side would meet in the same banks
  const int64_t most_across = min64(col_tiles, min64(kTileThreads / lanes, 4));
  for (int64_t across = 1; across <= most_across; ++across) {
    const int64_t width = (across * shape.cols - 1) * shape.stride + col_taps;
    const int64_t row_step = tile_row_step(shape.slots, width, shape.stride, shape.sum_bytes);
    const int64_t row_bytes = row_step * shape.sum_bytes;
    for (int64_t down = 1; down <= row_tiles && across * down * lanes <= kTileThreads;
         down += max64(1, down / 4)) {
      const int64_t height = (down * kTileRows - 1) * shape.stride;  // and `span`
      const int64_t most = (DW_TILE_BYTES / row_bytes - height) / kTapSide * kTapSide;
      if (most < min64(row_taps, 2 * kTapSide)) break;
      const int64_t steps = ceil_div(row_taps, most);
      const int64_t span = ceil_div(row_taps, steps * kTapSide) * kTapSide;
      TileSight sight = {across, down,  width,    height + span,
                         span,   steps, row_step, (height + span) * row_bytes};
      const double boxes = double(plane_blocks) * rows.classes * cols.classes *
                           ceil_div(col_tiles, across) * ceil_div(row_tiles, down);
      sight.cost = tile_cost(shape, sight, lanes, row_taps * col_taps, boxes);
      if (best.across == 0 || sight.cost < best.cost) best = sight;
    }
  }
  return best;
}

// planes: of the filter's channels, in all images.
inline GatherTilesPlan plan_gather_tiles(const GatherAxis& rows, const GatherAxis& cols,
                                         int64_t planes, bool channels_last,
                                         const TileShape& shape) {
  GatherTilesPlan plan = {};
  const int64_t lanes =
      int64_t{side_for(ceil_div(planes, shape.unit), shape.slots / shape.unit)} * shape.unit;
  const TileSight sight = best_sight(rows, cols, shape, lanes, ceil_div(planes, lanes));
  if (sight.across == 0) return plan;
  plan.tiles = plan_sides(rows, cols, 1, planes, kTileRows, shape.cols,
                          {lanes, sight.across, sight.down, 1});
  plan.blocks = plan.tiles.blocks();
  plan.span = static_cast<int32_t>(sight.span);
  plan.row_step = static_cast<int32_t>(sight.row_step);
  plan.shared_bytes = sight.bytes;
  plan.cost = sight.cost;
  const int64_t m = shape.multiplier;
  const int64_t sources = rows.forward && m > 1 ? (lanes - 1) / m + 2 : lanes;
  const int64_t results = rows.forward ? lanes : lanes / m;
  plan.vector = sources % shape.vector == 0 ? shape.vector : 1;
  plan.seen = tile_box(channels_last, sight.height, sight.width, sources / plan.vector,
                       plan.tiles.threads());
  plan.made = tile_box(channels_last, sight.down * kTileRows, sight.across * shape.cols, results,
                       plan.tiles.threads());
  return plan;
}

}  // namespace tfcompat_dw::cuda
