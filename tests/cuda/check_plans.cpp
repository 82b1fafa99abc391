// The launch plans of the CUDA kernels, without running any: on random problems every result, and
// every term of a filter gradient's sums, belongs to exactly one thread.
// Usage: check_plans SEED COUNT
#include "../kernels/problems.h"

#include "../../csrc/cuda/kernels.h"

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

// gather_channels: the tiles of all threads.
bool tiles_cover(const Problem& p, bool forward, int V) {
  const GatherPoints g = points_of(p, forward);
  const TilePlan plan = plan_tiles(g.rows, g.cols, p.batch, ceil_div(g.destination_channels, V), V);
  Cover cover(p.batch * g.rows.destinations * g.cols.destinations * g.destination_channels);
  const uint32_t blocks = static_cast<uint32_t>(plan.blocks());
  for (uint32_t block = 0; block < blocks; ++block) {
    for (uint32_t thread = 0; thread < static_cast<uint32_t>(plan.threads()); ++thread) {
      const TilePosition at = tile_position(plan, block, thread);
      if (at.image >= p.batch) continue;
      const Lattice rows = lattice_of(g.rows, at.row_class);
      const Lattice cols = lattice_of(g.cols, at.col_class);
      for (int64_t i = 0; i < kTileRows; ++i) {
        const int64_t row = rows.first + (at.row + i) * rows.step;
        if (row >= g.rows.destinations) break;
        for (int64_t j = 0; j < kTileCols; ++j) {
          const int64_t col = cols.first + (at.col + j) * cols.step;
          if (col >= g.cols.destinations) break;
          for (int64_t c = at.vector * V; c < min64((at.vector + 1) * V, g.destination_channels);
               ++c) {
            cover.take(((at.image * g.rows.destinations + row) * g.cols.destinations + col) *
                           g.destination_channels +
                       c);
          }
        }
      }
    }
  }
  return cover.once(forward ? "tiles, forward" : "tiles, input gradient");
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
    const int64_t source = planes * (forward ? 1 : p.multiplier) * (seen.end - seen.begin);
    const int64_t result = planes * (forward ? p.multiplier : 1) * (rows.end - rows.begin);
    if (slab_size<T>(source * g.cols.sources) > plan.source_slab ||
        slab_size<T>(result * g.cols.destinations) > plan.result_slab) {
      std::printf("planes: a slab is too small\n");
      return false;
    }
    for (int64_t plane = first; plane < first + planes; ++plane) {
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        cover.take(plane * g.rows.destinations + row);
      }
    }
  }
  if ((plan.source_slab + plan.result_slab) * static_cast<int64_t>(sizeof(T)) > kMostPlaneBytes) {
    std::printf("planes: more shared memory than there is\n");
    return false;
  }
  return cover.once(forward ? "planes, forward" : "planes, input gradient");
}

// filter_channels and filter_planes: every output position is in one split's sums.
template <class T>
bool sums_cover(const Problem& p) {
  const FilterPlans<T> plans = plan_filter_gradient<T>(p, true, true);
  const FilterChoice& choice = plans.choice;
  const GatherPoints g = points_of(p, true);
  if (choice.kernel == FilterChoice::kChannels) {
    const FilterPlan& plan = plans.channels;
    const FilterChannels f = {g.rows,     g.cols,    p.batch,
                              p.channels, p.lanes(), static_cast<int32_t>(p.multiplier),
                              1,          plan};
    const int64_t positions = kThreads >> plan.log_lanes;
    Cover cover(p.batch * g.rows.destinations * g.cols.destinations);
    for (int64_t part = 0; part < plan.splits * positions; ++part) {
      for (int64_t round = 0; round < plan.rounds; ++round) {
        const int64_t unit = round * plan.splits * positions + part;
        if (unit >= plan.units) break;
        const Walk w = walk_of(f, unit, 0, 0, static_cast<int>(p.rows.stride));
        for (int64_t i = 0; i < w.count; ++i) {
          for (int64_t j = 0; j < kWalkCols; ++j) {
            const int64_t col = w.col + j * w.col_step;
            if (col >= g.cols.destinations) break;
            cover.take((w.image * g.rows.destinations + w.row + i * w.row_step) *
                           g.cols.destinations +
                       col);
          }
        }
      }
    }
    return cover.once("walks");
  }
  if (choice.kernel == FilterChoice::kPlanes) {
    const FilterPlanesPlan& plan = plans.planes;
    Cover rows(p.batch * g.rows.destinations);
    for (int64_t split = 0; split < plan.splits; ++split) {
      for (int64_t unit = split; unit < plan.units; unit += plan.splits) {
        const int64_t begin = unit % plan.bands * plan.rows;
        for (int64_t row = begin; row < min64(begin + plan.rows, g.rows.destinations); ++row) {
          rows.take(unit / plan.bands * g.rows.destinations + row);
        }
      }
    }
    Cover lanes(p.lanes());
    for (int64_t group = 0; group < plan.groups; ++group) {
      const int64_t first = group * plan.planes;
      const int64_t own = min64(plan.planes, p.channels - first) * p.multiplier;
      if (own * plan.members > kThreads) {
        std::printf("filter planes: more members than threads\n");
        return false;
      }
      for (int64_t i = 0; i < own; ++i) lanes.take(first * p.multiplier + i);
    }
    return rows.once("rows of the filter gradient") && lanes.once("lanes of the filter gradient");
  }
  return true;
}

bool check_one(Kind kind) {
  const Problem p = random_problem(kind);
  if (p.rows.input == 0 || p.cols.input == 0) return true;  // library.cpp's part
  for (const bool forward : {true, false}) {
    if (on_lattice(p.rows, forward) && on_lattice(p.cols, forward)) {
      for (const int V : {1, 2, 4}) {
        if (!tiles_cover(p, forward, V)) return print_problem(p), false;
      }
    }
    if (!planes_cover<double>(p, forward) || !planes_cover<float>(p, forward) ||
        !planes_cover<BFloat16>(p, forward)) {
      return print_problem(p), false;
    }
  }
  if (sums_cover<double>(p) && sums_cover<float>(p) && sums_cover<BFloat16>(p)) return true;
  return print_problem(p), false;
}

}  // namespace

int main(int, char** argv) {
  const int count = check_all(argv, check_one);
  std::printf("the plans of %d problems cover everything once\n", count);
  return 0;
}
