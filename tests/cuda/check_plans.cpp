// The launch plans of the CUDA kernels, without running any: on random problems every result, and
// every term of a filter gradient's sums, belongs to exactly one thread.
// Usage: check_plans SEED COUNT
#include <utility>

#include "../../csrc/cuda/kernels.h"
#include "../kernels/problems.h"

namespace {
using namespace tfcompat_dw::cuda;

// How often each position of a tensor was taken.
struct Cover {
  explicit Cover(int64_t count) : times(static_cast<size_t>(count)) {}
  void take(int64_t index) { ++times.at(static_cast<size_t>(index)); }
  bool once(const char* what) const {
    for (size_t i = 0; i < times.size(); ++i) {
      if (times[i] == 1) continue;
      std::printf("%s: position %zu is taken %d times\n", what, i, times[i]);
      return false;
    }
    return true;
  }
  std::vector<int> times;
};

// Calls visit(at) for the tiles of all threads that lie in an image.
template <class Visit>
void for_each_tile(const TilePlan& plan, int64_t batch, const Visit& visit) {
  const uint32_t blocks = static_cast<uint32_t>(plan.blocks());
  for (uint32_t block = 0; block < blocks; ++block) {
    for (uint32_t thread = 0; thread < static_cast<uint32_t>(plan.threads()); ++thread) {
      const TilePosition at = tile_position(plan, block, thread);
      if (at.image < batch) visit(at);
    }
  }
}

// The results of a gathering pass, channels last.
struct CoverOfPixels {
  const GatherPoints& g;
  int V;
  Cover cover{g.batch * g.rows.destinations * g.cols.destinations * g.destination_channels};

  // The tile's channels of a pixel.
  void take(const TilePosition& at, int64_t row, int64_t col) {
    const int64_t pixel = (at.image * g.rows.destinations + row) * g.cols.destinations + col;
    for (int64_t c = at.vector * V; c < min64((at.vector + 1) * V, g.destination_channels); ++c) {
      cover.take(pixel * g.destination_channels + c);
    }
  }
};

// A box of shared memory: its threads visit every place once.
bool box_covers(const TileBox& box, bool channels_last, uint32_t threads) {
  Cover cover(int64_t{box.rows} * box.cols * box.vectors);
  blockDim.x = threads;
  for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) {
    const auto get = [&](const TilePlace& at) {
      return (int64_t{at.row} * box.cols + at.col) * box.vectors + at.vector;
    };
    const auto put = [&](const TilePlace&, int64_t place) { cover.take(place); };
    channels_last ? for_each_place<true>(box, get, put) : for_each_place<false>(box, get, put);
  }
  return cover.once("places of a box");
}

// gather_tiles: the tiles of all threads cover the results of every plane, and what a block puts
// together from its threads covers the results.
template <class T, int Slots, int S>
bool tiles_cover(const Problem& p, bool forward) {
  if (!forward && p.multiplier > Slots) return true;
  const GatherTiles g = gather_tiles_of<T, Slots, S>(p, forward, true);
  if (g.plan.blocks == 0) return true;
  const GatherAxis& rows = g.problem.rows;
  const GatherAxis& cols = g.problem.cols;
  const int64_t pixels = rows.destinations * cols.destinations;
  const int64_t copies = forward ? 1 : p.multiplier;
  const TilePlan& tiles = g.plan.tiles;
  Cover planes(g.planes * pixels), results(p.batch * g.problem.destination_channels * pixels);
  const auto take = [&](Cover& cover, int64_t plane, int64_t row, int64_t col) {
    if (row >= rows.destinations || col >= cols.destinations) return;
    if ((plane + 1) * pixels > static_cast<int64_t>(cover.times.size())) return;
    cover.take((plane * rows.destinations + row) * cols.destinations + col);
  };
  for (uint32_t block = 0; block < static_cast<uint32_t>(tiles.blocks()); ++block) {
    for (uint32_t thread = 0; thread < static_cast<uint32_t>(tiles.threads()); ++thread) {
      const TilePosition at = tile_position(tiles, block, thread);
      for (int64_t i = 0; i < tiles.tile_rows * tiles.tile_cols; ++i) {
        take(planes, at.vector, at.row_class + (at.row + i / tiles.tile_cols) * rows.step,
             at.col_class + (at.col + i % tiles.tile_cols) * cols.step);
      }
    }
    const TilePosition at = tile_position(tiles, block, 0);
    for (int64_t i = 0; i < int64_t{tiles.rows} * tiles.tile_rows; ++i) {
      for (int64_t j = 0; j < g.plan.made.cols; ++j) {
        for (int64_t result = 0; result < g.plan.made.vectors; ++result) {
          take(results, at.vector / copies + result, at.row_class + (at.row + i) * rows.step,
               at.col_class + (at.col + j) * cols.step);
        }
      }
    }
  }
  const uint32_t threads = static_cast<uint32_t>(tiles.threads());
  const int64_t pixel = tile_pitch(Slots) * static_cast<int64_t>(sizeof(Sum<T>));
  const int64_t row = g.plan.row_step * static_cast<int64_t>(sizeof(Sum<T>));
  const int64_t held = int64_t{g.plan.seen.rows} * row;
  const int64_t made = int64_t{g.plan.made.rows} * g.plan.made.cols * pixel;
  if (held > g.plan.shared_bytes || made > held || g.plan.seen.cols * pixel > row ||
      g.plan.shared_bytes > DW_TILE_BYTES ||
      g.plan.seen.vectors * g.plan.vector > tile_pitch(Slots) || tiles.lanes > Slots ||
      tiles.lanes % copies != 0 || threads > kTileThreads) {
    std::printf("tiles: more than a block has\n");
    return false;
  }
  return planes.once("tiles of planes") && results.once("results of tiles") &&
         box_covers(g.plan.seen, p.channels_last, threads) &&
         box_covers(g.plan.made, p.channels_last, threads);
}

// gather_strips: the strips of all threads.
template <int V, int K>
bool strips_cover(const Problem& p, bool forward) {
  const GatherPoints g = points_of(p, forward);
  constexpr int kCols = kStripCols<V, K>;
  const TilePlan plan =
      plan_strips(g.rows, g.cols, p.batch, ceil_div(g.destination_channels, V), 4 * V, kCols);
  const StripAxis rows = strip_axis(g.rows), cols = strip_axis(g.cols);
  CoverOfPixels pixels = {g, V};
  for_each_tile(plan, p.batch, [&](const TilePosition& at) {
    const int32_t row = at.row_class + static_cast<int32_t>(at.row) * rows.step;
    const int32_t col = at.col_class + static_cast<int32_t>(at.col) * cols.step;
    if (row >= rows.destinations) return;
    for (int32_t i = 0; i < strip_rows(rows.destinations - row, rows.step, plan.tile_rows); ++i) {
      for (int32_t j = 0; j < kCols && col + j * cols.step < cols.destinations; ++j) {
        pixels.take(at, row + i * rows.step, col + j * cols.step);
      }
    }
  });
  return pixels.cover.once(forward ? "strips, forward" : "strips, input gradient");
}

// What strip_axis says, against the forward pass as problem.h tells it.
bool strips_see(const Axis& axis, bool forward) {
  const StripAxis strip = strip_axis(gather_axis(axis, forward));
  const int32_t S = forward ? static_cast<int32_t>(axis.stride) : 1;
  for (int32_t d = 0; d < strip.destinations; ++d) {
    const int32_t r = d % strip.step, i = d / strip.step;
    for (int32_t j = 0; j < axis.kernel; ++j) {
      const int64_t source = r - strip.before + (i * S + j) * strip.pitch;
      const int64_t k = forward ? j : axis.kernel - 1 - j;
      const int64_t output = forward ? d : source, input = forward ? source : d;
      if (output * axis.stride + k * axis.dilation - axis.pad == input) continue;
      std::printf("strips: result %d sees %" PRId64 " through tap %d\n", d, source, j);
      return false;
    }
  }
  return true;
}

// gather_parities: the pairs of all threads, and each is told how much of it exists.
bool parities_cover(const Problem& p, int V) {
  const GatherPoints g = points_of(p, false);
  const GatherAxis row_pairs = pairs_of(g.rows), col_pairs = pairs_of(g.cols);
  const TilePlan plan =
      plan_strips(row_pairs, col_pairs, p.batch, ceil_div(g.destination_channels, V), 4 * V, 1);
  const ParityAxis rows = parity_axis(g.rows), cols = parity_axis(g.cols);
  CoverOfPixels pixels = {g, V};
  for_each_tile(plan, p.batch, [&](const TilePosition& at) {
    if (at.col >= col_pairs.destinations) return;
    const int64_t end = min64(at.row + plan.tile_rows, row_pairs.destinations);
    for (int64_t pair = at.row; pair < end; ++pair) {
      for (int32_t i = 0; i < 4; ++i) {
        const int32_t row = rows.first(static_cast<int32_t>(pair)) + i / 2;
        const int32_t col = cols.first(static_cast<int32_t>(at.col)) + i % 2;
        if (rows.has(row) && cols.has(col)) pixels.take(at, row, col);
      }
    }
  });
  return pixels.cover.once("parities");
}

// Strips of bands: every result of a band is one strip's.
bool band_strips_cover(int64_t tall, int64_t wide, const BandStrips& strips) {
  Cover cover(tall * wide);
  for (int32_t item = 0; item < strips.count(); ++item) {
    const BandStrip at = band_strip(strips, static_cast<uint32_t>(item));
    for (int64_t i = 0; i < strips.length; ++i) {
      const int64_t row = at.row + i * strips.row_step;
      if (row >= tall) break;
      for (int64_t j = 0; j < strips.cols; ++j) {
        const int64_t col = at.col + j * strips.col_step;
        if (col < wide) cover.take(row * wide + col);
      }
    }
  }
  return cover.once("strips of a band");
}

// gather_planes: bands of groups of planes, and the slabs hold them.
template <class T>
bool planes_cover(const Problem& p, bool forward) {
  const GatherPoints g = points_of(p, forward);
  const PlanePlan plan = plan_planes<T>(g.rows, g.cols, p.batch, p.channels, p.multiplier);
  if (plan.blocks == 0) return true;
  Cover cover(plan.all_planes * g.rows.destinations);
  for (int64_t block = 0; block < static_cast<int64_t>(plan.blocks); ++block) {
    const int64_t first = block / plan.bands * plan.planes;
    const int64_t begin = block % plan.bands * plan.rows;
    const int64_t planes = min64(plan.planes, plan.all_planes - first);
    const Range rows = {begin, min64(begin + plan.rows, g.rows.destinations)};
    const Range seen = plan.whole ? Range{0, g.rows.sources} : sources_of(g.rows, g.rows, rows);
    const int64_t source = (plan.whole ? planes * (forward ? 1 : p.multiplier) : 1) *
                           (seen.end - seen.begin) * g.cols.sources;
    const int64_t result = (plan.whole ? planes * (forward ? p.multiplier : 1) : 1) *
                           (rows.end - rows.begin) * g.cols.destinations;
    const int64_t sources = plan.whole ? 1 : planes * (forward ? 1 : p.multiplier);
    const int64_t results = plan.whole ? 1 : planes * (forward ? p.multiplier : 1);
    if (slab_size<T>(source) > plan.source_piece || slab_size<T>(result) > plan.result_piece ||
        sources * plan.source_piece > plan.source_slab ||
        results * plan.result_piece > plan.result_slab) {
      std::printf("planes: a slab is too small\n");
      return false;
    }
    for (int64_t plane = first; plane < first + planes; ++plane) {
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        cover.take(plane * g.rows.destinations + row);
      }
    }
  }
  if ((plan.source_slab + plan.result_slab) * static_cast<int64_t>(sizeof(T)) > kSharedUnasked) {
    std::printf("planes: more shared memory than there is\n");
    return false;
  }
  for (const int64_t threads : {1, 40, 256}) {
    const BandStrips strips = band_strips(plan.rows, g.cols.destinations, g.rows.step, g.cols.step,
                                          plane_cols(3), threads);
    if (!band_strips_cover(plan.rows, g.cols.destinations, strips)) return false;
  }
  return cover.once(forward ? "planes, forward" : "planes, input gradient");
}

// What gather_points sees of an axis: the source of each destination through each tap.
template <class Index>
bool sources_met(const GatherAxis& axis) {
  for (int64_t d = 0; d < axis.destinations; ++d) {
    for (int32_t k = 0; k < axis.kernel; ++k) {
      const int64_t shift = int64_t{k} * axis.dilation - axis.pad;
      const int64_t source = axis.forward ? d * axis.stride + shift
                             : floor_mod(d - shift, axis.stride)
                                 ? -1
                                 : floor_div(d - shift, axis.stride);
      const bool met = source >= 0 && source < axis.sources;
      const int64_t got = source_through<Index>(axis, static_cast<Index>(d), k);
      if (met ? got == source : got < 0) continue;
      std::printf("points: destination %" PRId64 " meets source %" PRId64 " through tap %d\n", d,
                  got, k);
      return false;
    }
  }
  return true;
}

// gather_points: the results of all threads, and where each of them lies.
template <class Index>
bool points_cover(const GatherPoints& g, const Launch& grid) {
  const int64_t count =
      g.batch * g.rows.destinations * g.cols.destinations * g.destination_channels;
  const Layout layout = {g.channels_last, g.rows.destinations, g.cols.destinations,
                         g.destination_channels};
  const int64_t threads = int64_t{grid.blocks} * grid.threads;
  Cover cover(count);
  for (int64_t thread = 0; thread < threads; ++thread) {
    for (int64_t index = thread; index < count; index += threads) {
      const Point<Index> at = point_of<Index>(g, static_cast<Index>(index));
      const int64_t image = at.image, row = at.row, col = at.col, channel = at.channel;
      if (image >= g.batch || row >= layout.rows || col >= layout.cols ||
          channel >= layout.channels) {
        std::printf("points: result %" PRId64 " is outside\n", index);
        return false;
      }
      cover.take(layout.index(image, row, col, channel));
    }
  }
  return cover.once("points") && sources_met<Index>(g.rows) && sources_met<Index>(g.cols);
}

// With the indices that are chosen, and with the wide ones, which are always right.
bool points_cover(const Problem& p, bool forward) {
  launches.clear();
  only_planned = true;
  gather_by_points<float>(p, forward, {});
  only_planned = false;
  const Launch& grid = launches.at(0);
  const GatherPoints g = points_of(p, forward);
  const bool narrow = grid.kernel == "gather_points<float, unsigned int>";
  return points_cover<uint64_t>(g, grid) && (!narrow || points_cover<uint32_t>(g, grid));
}

// So far apart are the taps that each result has a class of its own, more than a grid has blocks:
// some kernel starts all the same.
bool far_taps_start() {
  constexpr int64_t kFar = 60000;
  Problem p = {};
  p.batch = p.channels = p.multiplier = 1;
  p.dtype = DataType::kFloat32;
  p.channels_last = true;
  p.rows = p.cols = {kFar, kFar, 3, 1, kFar, kFar};
  launches.clear();
  only_planned = true;
  for (const bool forward : {true, false}) {
    Kernels<float>::gather(p, forward, nullptr, nullptr, nullptr, nullptr, nullptr);
  }
  only_planned = false;
  if (launches.size() == 2) return true;
  std::printf("far taps: %zu launches\n", launches.size());
  return false;
}

// The blocks of a filter gradient: every piece of lanes, piece of taps and split is one block's.
bool filter_blocks_cover(const Divisor& lane_blocks, const Divisor& tap_blocks, uint32_t splits,
                         double blocks) {
  Cover cover(int64_t{lane_blocks} * tap_blocks * splits);
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
    const FilterBlock block = filter_block(lane_blocks, tap_blocks);
    cover.take((int64_t{block.split} * tap_blocks + block.taps) * lane_blocks + block.lanes);
  }
  return cover.once("blocks of the filter gradient");
}

// filter_points: every lane and every wanted tap is one block's. Which output positions are a
// thread's, the kernel counts itself.
template <class T>
bool filter_points_cover(const Problem& p, bool filter_wanted, bool bias_wanted) {
  const FilterPlans<T> plans = plan_filter_gradient<T>(p, filter_wanted, bias_wanted);
  if (plans.choice.kernel != FilterChoice::kPoints) return true;
  const FilterPoints& f = plans.points;
  const int64_t first_tap = filter_wanted ? 0 : p.taps();
  const int64_t taps = p.taps() + (bias_wanted ? 1 : 0) - first_tap;
  const int64_t lanes = int64_t{f.lane_blocks} << f.log_lanes;
  const bool idle_block = lanes - p.lanes() >= int64_t{1} << f.log_lanes;
  if (f.first_tap != first_tap || f.tap_blocks != taps || lanes < p.lanes() || idle_block ||
      f.splits == 0) {
    std::printf("filter points: %u blocks of taps, %u of lanes, %u splits\n",
                uint32_t{f.tap_blocks}, uint32_t{f.lane_blocks}, f.splits);
    return false;
  }
  return filter_blocks_cover(f.lane_blocks, f.tap_blocks, f.splits,
                             double(f.lane_blocks) * f.tap_blocks * f.splits);
}

// filter_planes, and backward_planes: the rows of the problem's results and their channels.
bool planes_sums_cover(const FilterPlanesPlan& plan, const GatherPoints& g, int64_t channels,
                       int64_t copies) {
  Cover rows(g.batch * g.rows.destinations);
  for (int64_t split = 0; split < plan.splits; ++split) {
    for (int64_t unit = split; unit < plan.units; unit += plan.splits) {
      const int64_t begin = unit % plan.slabs.bands * plan.slabs.rows;
      for (int64_t row = begin; row < min64(begin + plan.slabs.rows, g.rows.destinations); ++row) {
        rows.take(unit / plan.slabs.bands * g.rows.destinations + row);
      }
    }
  }
  Cover lanes(channels * copies);
  for (int64_t group = 0; group < plan.groups; ++group) {
    const int64_t first = group * plan.slabs.planes;
    const int64_t own = min64(plan.slabs.planes, channels - first) * copies;
    if (own * plan.members > kThreads) {
      std::printf("planes: more members than threads\n");
      return false;
    }
    for (int64_t i = 0; i < own; ++i) lanes.take(first * copies + i);
  }
  return rows.once("rows of planes") && lanes.once("channels of planes") &&
         band_strips_cover(plan.slabs.rows, g.cols.destinations, plan.strips) &&
         filter_blocks_cover(plan.groups, plan.tap_blocks, plan.splits, plan.blocks);
}

// backward_channels: every input position is one walk's; backward_planes: see above.
template <class T>
bool backward_cover(const Problem& p) {
  const BackwardChoice choice = plan_backward<T>(p, true, false);
  if (choice.kernel == BackwardChoice::kNone) return true;
  if (choice.kernel == BackwardChoice::kPlanes) {
    if (choice.planes.strips.cols != kBackwardPlaneCols) {
      std::printf("planes: strips of %d columns\n", choice.planes.strips.cols);
      return false;
    }
    return planes_sums_cover(choice.planes, points_of(p, false), p.channels, 1);
  }
  const FilterPlan& plan = choice.channels;
  const StripAxis rows = strip_axis(gather_axis(p.rows, false));
  const StripAxis cols = strip_axis(gather_axis(p.cols, false));
  Cover cover(p.batch * p.rows.input * p.cols.input);
  for (uint32_t unit = 0; unit < plan.units; ++unit) {
    const Walk w = walk_of(plan, rows, cols, unit, 0, 0, 1);
    for (int64_t i = 0; i < w.count; ++i) {
      for (int64_t col = w.col; col < w.col + plan.cols * cols.step; col += cols.step) {
        if (col >= p.cols.input) break;
        cover.take((w.image * p.rows.input + w.row + i * rows.step) * p.cols.input + col);
      }
    }
  }
  return cover.once("walks down the input");
}

// The groups of KR x KC taps of a filter gradient's blocks: every tap is in one.
bool taps_cover(const Problem& p, int KR, int KC, uint32_t groups) {
  Cover cover(p.taps());
  const Divisor side_by_side = ceil_div(p.cols.kernel, KC);
  for (uint32_t group = 0; group < groups; ++group) {
    const FirstTap first = first_tap(group, KR, KC, side_by_side);
    for (int64_t row = first.row; row < min64(first.row + KR, p.rows.kernel); ++row) {
      for (int64_t col = first.col; col < min64(first.col + KC, p.cols.kernel); ++col) {
        cover.take(row * p.cols.kernel + col);
      }
    }
  }
  return cover.once("taps of the filter gradient");
}

// filter_channels and filter_planes: every output position is in one split's sums.
template <class T>
bool sums_cover(const Problem& p) {
  const FilterPlans<T> plans = plan_filter_gradient<T>(p, true, true);
  const FilterChoice& choice = plans.choice;
  const GatherPoints g = points_of(p, true);
  if (choice.kernel == FilterChoice::kChannels) {
    const FilterPlan& plan = plans.channels;
    const FilterChannels f = filter_channels_of(p, 1, 3, plan);
    const int64_t positions = kThreads >> plan.log_lanes;
    Cover cover(p.batch * g.rows.destinations * g.cols.destinations);
    for (int64_t part = 0; part < plan.splits * positions; ++part) {
      for (int64_t round = 0; round < plan.rounds; ++round) {
        const int64_t unit = round * plan.splits * positions + part;
        if (unit >= plan.units) break;
        const Walk w = walk_of(plan, f.rows, f.cols, static_cast<uint32_t>(unit), 0, 0,
                               static_cast<int32_t>(p.rows.stride));
        for (int64_t i = 0; i < w.count; ++i) {
          for (int64_t j = 0; j < plan.cols; ++j) {
            const int64_t col = w.col + j * f.cols.step;
            if (col >= g.cols.destinations) break;
            cover.take((w.image * g.rows.destinations + w.row + i * f.rows.step) *
                           g.cols.destinations +
                       col);
          }
        }
      }
    }
    const int K = choice.K;
    return cover.once("walks") && taps_cover(p, K ? K : 1, K ? K : 3, plan.tap_blocks) &&
           filter_blocks_cover(plan.lane_blocks, plan.tap_blocks, plan.splits, plan.blocks);
  }
  if (choice.kernel == FilterChoice::kPlanes) {
    const int K = choice.K;
    return planes_sums_cover(plans.planes, g, p.channels, p.multiplier) &&
           (K == 0 || taps_cover(p, K, K, plans.planes.tap_blocks));
  }
  return true;
}

bool check_one(Kind kind) {
  const Problem p = random_problem(kind);
  if (p.rows.input == 0 || p.cols.input == 0) return true;  // library.cpp's part
  const bool counted = steps_in_32_bits(p);
  for (const bool forward : {true, false}) {
    if (on_lattice(p.rows, forward) && on_lattice(p.cols, forward)) {
      if (counted && !(tiles_cover<float, 16, 1>(p, forward) &&
                       tiles_cover<double, kFewSlots, 1>(p, forward) &&
                       tiles_cover<BFloat16, 16, 2>(p, forward))) {
        return print_problem(p), false;
      }
      for (const int V : {1, 2, 4}) {
        if (!forward && counted && p.rows.stride == 2 && p.cols.stride == 2 &&
            !parities_cover(p, V)) {
          return print_problem(p), false;
        }
      }
      const bool strips = counted && (forward || (p.rows.stride == 1 && p.cols.stride == 1));
      if (strips && !(strips_cover<1, 3>(p, forward) && strips_cover<1, 7>(p, forward) &&
                      strips_cover<4, 3>(p, forward) && strips_see(p.rows, forward) &&
                      strips_see(p.cols, forward))) {
        return print_problem(p), false;
      }
    }
    if (!planes_cover<double>(p, forward) || !planes_cover<float>(p, forward) ||
        !planes_cover<BFloat16>(p, forward) || !points_cover(p, forward)) {
      return print_problem(p), false;
    }
  }
  for (const auto& [filter, bias] : {std::pair(true, true), {true, false}, {false, true}}) {
    if (!filter_points_cover<double>(p, filter, bias) ||
        !filter_points_cover<float>(p, filter, bias) ||
        !filter_points_cover<BFloat16>(p, filter, bias)) {
      return print_problem(p), false;
    }
  }
  if (sums_cover<double>(p) && sums_cover<float>(p) && sums_cover<BFloat16>(p) &&
      backward_cover<float>(p)) {
    return true;
  }
  return print_problem(p), false;
}

}  // namespace

int main(int, char** argv) {
  if (!far_taps_start()) return 1;
  const int count = check_all(argv, check_one);
  std::printf("the plans of %d problems cover everything once\n", count);
  return 0;
}
