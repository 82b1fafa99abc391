// Forward and input gradient, both memory orders, any number of taps: a tile of sources in shared
// memory, a tile of results in a thread's registers.
//
// A block takes up to 16 planes (channels of images; float64: 8) and a box of rows and columns. The
// sources that it sees come into shared memory with zeros for padding, as many filter rows at a
// time as fit, [rows][cols][planes] whatever the memory order was, so that the threads of a warp
// read from different banks. A thread owns one plane: for 3 x 3 taps at a time it keeps the weights
// and reads each source row once for all results that see it: 60 reads for 288 products.
//
// "Planes" alone are those of the filter's channels, c * multiplier + m of every image: of the
// results in forward, of the sources in the input gradient, where the results of `multiplier`
// threads are added up at the end.
#pragma once
#include "gather_points.h"
#include "lattice.h"
#include "numbers.h"
#include "strip.h"
#include "tile_plan.h"

namespace tfcompat_dw::cuda {

// From an element of a tensor to its neighbours. Elements are counted in 32 bits: the caller has
// seen to it that there are less than 2^32.
struct TensorSteps {
  uint32_t image, channel, row, col;
};

struct GatherTiles {
  GatherPoints problem;
  GatherTilesPlan plan;
  TensorSteps source, destination;
  Divisor source_channels, destination_channels, lanes, multiplier;
  int32_t planes;
};

inline TensorSteps tensor_steps(bool channels_last, int64_t channels, int64_t rows, int64_t cols) {
  const uint32_t c = static_cast<uint32_t>(channels);
  const uint32_t h = static_cast<uint32_t>(rows), w = static_cast<uint32_t>(cols);
  if (channels_last) return {h * w * c, 1, w * c, c};
  return {c * h * w, h * w, w, 1};
}

// What a block begins with.
struct TileBlock {
  Lattice rows, cols;
  int32_t row, col;  // its first result, counted on the lattice
  int32_t plane, source_plane, result_plane;
  Places source_rows, source_cols;  // from its first result's first tap on
};

// The sources of a lattice from its `first` on.
__device__ inline Places sources_from(const Lattice& lattice, int64_t first, int64_t size) {
  return {static_cast<int>(lattice.origin + first * lattice.pitch), static_cast<int>(lattice.pitch),
          static_cast<int>(size)};
}

// The source that a plane sees, and the result that it has a part in: planes of the tensors.
__device__ inline int32_t source_of(const GatherTiles& g, int32_t plane) {
  return g.problem.rows.forward ? static_cast<int32_t>(g.multiplier.quotient(plane)) : plane;
}
__device__ inline int32_t result_of(const GatherTiles& g, int32_t plane) {
  return g.problem.rows.forward ? plane : static_cast<int32_t>(g.multiplier.quotient(plane));
}

template <int S>
__device__ inline TileBlock tile_block(const GatherTiles& g) {
  const TilePosition at = tile_position(g.plan.tiles, blockIdx.x, 0);
  TileBlock block;
  block.rows = lattice_of(g.problem.rows, at.row_class);
  block.cols = lattice_of(g.problem.cols, at.col_class);
  block.row = static_cast<int32_t>(at.row);
  block.col = static_cast<int32_t>(at.col);
  block.plane = static_cast<int32_t>(at.vector);
  block.source_plane = source_of(g, block.plane);
  block.result_plane = result_of(g, block.plane);
  block.source_rows = sources_from(block.rows, at.row * S, g.problem.rows.sources);
  block.source_cols = sources_from(block.cols, at.col * S, g.problem.cols.sources);
  return block;
}

// Places from number `first` on.
__device__ inline Places from(const Places& places, int first) {
  return {places.first + first * places.pitch, places.pitch, places.size};
}

// The block's results on an axis of `size`.
__device__ inline Places places_of(const Lattice& lattice, int32_t first, int64_t size) {
  const int step = static_cast<int>(lattice.step);
  return {static_cast<int>(lattice.first) + first * step, step, static_cast<int>(size)};
}

// The first element of a plane.
__device__ inline uint32_t plane_start(uint32_t plane, const Divisor& channels,
                                       const TensorSteps& steps) {
  const uint32_t image = channels.quotient(plane);
  return image * steps.image + (plane - image * channels) * steps.channel;
}

struct TilePlace {
  int row, col, vector;
};

// Calls put(place, get(place)) for every place of a box, all threads of the block together. Threads
// side by side take what lies side by side in memory, and each gets four before it puts the first.
template <bool ChannelsLast, class Get, class Put>
__device__ inline void for_each_place(const TileBox& box, const Get& get, const Put& put) {
  constexpr int kAtOnce = 4;
  const uint32_t group = box.run.quotient(threadIdx.x);
  if (group >= box.groups) return;
  for (uint32_t item = threadIdx.x - group * box.run; item < box.run; item += blockDim.x) {
    uint32_t rest = item;
    const int first = ChannelsLast ? take_digit(rest, box.vectors) : 0;
    const auto place_of = [&](uint32_t line) {
      TilePlace place = {static_cast<int>(line), static_cast<int>(rest), first};
      if (ChannelsLast) return place;
      place.row = take_digit(line, box.rows);
      place.vector = static_cast<int>(line);
      return place;
    };
    for (uint32_t line = group; line < box.lines; line += kAtOnce * box.groups) {
      decltype(get(TilePlace())) values[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const uint32_t own = line + i * box.groups;
        values[i] = get(place_of(own < box.lines ? own : group));
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const uint32_t own = line + i * box.groups;
        if (own < box.lines) put(place_of(own), values[i]);
      }
    }
  }
}

// Brings in what filter rows [first_tap, first_tap + span) see.
template <bool ChannelsLast, int V, int Pitch, class T>
__device__ inline void hold_sources(const GatherTiles& g, const TileBlock& block, int first_tap,
                                    const T* __restrict__ sources, Sum<T>* held) {
  const int planes = static_cast<int>(g.problem.batch * g.problem.source_channels);
  const Places rows = from(block.source_rows, first_tap);
  const Places& cols = block.source_cols;
  const uint32_t corner = rows.first * g.source.row + cols.first * g.source.col;
  const uint32_t row_step = rows.pitch * g.source.row, col_step = cols.pitch * g.source.col;
  const auto get = [&](const TilePlace& at) {
    const int plane = block.source_plane + at.vector * V;
    Vector<T, V> vector = {};
    if (rows.has(at.row) && cols.has(at.col) && plane < planes) {
      vector = load<T, V>(sources + (corner + plane_start(plane, g.source_channels, g.source) +
                                     at.row * row_step + at.col * col_step));
    }
    return vector;
  };
  const auto put = [&](const TilePlace& at, const Vector<T, V>& vector) {
    Sum<T> values[V];
    widen(vector, values);
    Sum<T>* to = held + at.row * g.plan.row_step + at.col * Pitch + at.vector * V;
#pragma unroll
    for (int v = 0; v < V; ++v) to[v] = values[v];
  };
  for_each_place<ChannelsLast>(g.plan.seen, get, put);
}

// The filter as one thread sees it: its channel's weights in the order of a lattice's taps.
template <class T>
struct TileWeights {
  const T* filter;
  bool present;  // else all are zeros: the thread has no plane
  uint32_t channel;
  uint32_t first;
  uint32_t row_step, col_step;
  int rows, cols;

  // How many rows of [first_row, first_row + count) there are.
  __device__ int rows_of(int first_row, int count) const {
    return first_row + count < rows ? count : rows - first_row;
  }
  __device__ Sum<T> at(int kh, int kw) const {
    if (!present || kh >= rows || kw >= cols) return 0;
    return widen(filter[first + kh * row_step + kw * col_step]);
  }
};

template <class T>
__device__ inline TileWeights<T> tile_weights(const GatherTiles& g, const TileBlock& block,
                                              const T* filter, uint32_t plane) {
  const uint32_t lanes = g.lanes, kernel_row = g.problem.cols.kernel * lanes;
  const uint32_t channel = plane - g.lanes.quotient(plane) * lanes;
  return {filter,
          plane < static_cast<uint32_t>(g.planes),
          channel,
          block.rows.tap_first * kernel_row + block.cols.tap_first * lanes + channel,
          block.rows.tap_step * kernel_row,
          block.cols.tap_step * lanes,
          block.rows.taps,
          block.cols.taps};
}

// One thread's results, and where its sources begin in shared memory.
template <class T, int S>
struct Tile {
  static constexpr int kRows = kTileRows, kCols = kTileCols<T, S>;
  const Sum<T>* held;
  int row_step;  // elements of shared memory
  Sum<T> sums[kRows][kCols];

  // Calls visit(i, j, sum) for all results.
  template <class Visit>
  __device__ void for_each_sum(const Visit& visit) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int j = 0; j < kCols; ++j) visit(i, j, sums[i][j]);
    }
  }
};

// Adds the taps of filter rows [first_tap, first_tap + count). What does not exist is multiplied as
// zeros, sources and the weights after the last tap.
template <int Pitch, class T, int S>
__device__ inline void add_taps(Tile<T, S>& tile, const TileWeights<T>& weights, int first_tap,
                                int count) {
  constexpr int N = kTapSide, kSeen = (Tile<T, S>::kCols - 1) * S + N;
  const int end = weights.rows_of(first_tap, count);
#pragma unroll 1
  for (int kh = 0; kh < end; kh += N) {
#pragma unroll 1
    for (int kw = 0; kw < weights.cols; kw += N) {
      Sum<T> taps[N][N];
#pragma unroll
      for (int a = 0; a < N; ++a) {
#pragma unroll
        for (int k = 0; k < N; ++k) taps[a][k] = weights.at(first_tap + kh + a, kw + k);
      }
      const Sum<T>* line = tile.held + kh * tile.row_step + kw * Pitch;
#pragma unroll
      for (int r = 0; r < (tile.kRows - 1) * S + N; ++r, line += tile.row_step) {
        Sum<T> seen[kSeen];
#pragma unroll
        for (int c = 0; c < kSeen; ++c) seen[c] = line[c * Pitch];
#pragma unroll
        for (int i = 0; i < tile.kRows; ++i) {
          const int a = r - i * S;
          if (a < 0 || a >= N) continue;
#pragma unroll
          for (int k = 0; k < N; ++k) {
#pragma unroll
            for (int j = 0; j < tile.kCols; ++j) tile.sums[i][j] += seen[j * S + k] * taps[a][k];
          }
        }
      }
    }
  }
}

// The same, one tap at a time; what does not exist is skipped.
template <int Pitch, class T, int S>
__device__ inline void add_existing(Tile<T, S>& tile, const TileWeights<T>& weights, int first_tap,
                                    int count, const Places& rows, const Places& cols) {
  constexpr int N = kTapSide;
  const int end = weights.rows_of(first_tap, count);
  for (int kh = 0; kh < end; kh += N) {
    for (int kw = 0; kw < weights.cols; kw += N) {
      for (int tap = 0; tap < N * N; ++tap) {  // in the order of add_taps
        const int a = kh + tap / N, k = kw + tap % N;
        if (a >= end || k >= weights.cols) continue;
        const Sum<T> weight = weights.at(first_tap + a, k);
        tile.for_each_sum([&](int i, int j, Sum<T>& sum) {
          if (!rows.has(first_tap + a + i * S) || !cols.has(k + j * S)) return;
          sum += tile.held[(a + i * S) * tile.row_step + (k + j * S) * Pitch] * weight;
        });
      }
    }
  }
}

// Where the results of a block lie; rows and columns are counted from its first.
struct TileResults {
  Places rows, cols;
  uint32_t corner, row_step, col_step;

  __device__ bool has(int row, int col) const { return rows.has(row) && cols.has(col); }
  // start: of the plane.
  __device__ uint32_t element(uint32_t start, int row, int col) const {
    return start + corner + row * row_step + col * col_step;
  }
};

__device__ inline TileResults tile_results(const GatherTiles& g, const TileBlock& block) {
  TileResults results;
  results.rows = places_of(block.rows, block.row, g.problem.rows.destinations);
  results.cols = places_of(block.cols, block.col, g.problem.cols.destinations);
  results.corner = results.rows.first * g.destination.row + results.cols.first * g.destination.col;
  results.row_step = results.rows.pitch * g.destination.row;
  results.col_step = results.cols.pitch * g.destination.col;
  return results;
}

// Adds up the copies of each result of a block and stores it. made: [rows][cols][planes] in shared
// memory.
template <bool ChannelsLast, int Pitch, class T>
__device__ inline void store_made(const GatherTiles& g, const TileBlock& block,
                                  const TileResults& results, const Sum<T>* made, T* destinations) {
  const GatherPoints& p = g.problem;
  const int copies = p.rows.forward ? 1 : static_cast<int>(p.multiplier);
  const int planes = static_cast<int>(p.batch * p.destination_channels);
  const auto get = [&](const TilePlace& at) {
    const Sum<T>* parts = made + (at.row * g.plan.made.cols + at.col) * Pitch + at.vector * copies;
    Sum<T> sum = parts[0];
#pragma unroll 1
    for (int copy = 1; copy < copies; ++copy) sum += parts[copy];
    return sum;
  };
  const auto put = [&](const TilePlace& at, Sum<T> sum) {
    const int plane = block.result_plane + at.vector;
    if (plane >= planes || !results.has(at.row, at.col)) return;
    const uint32_t start = plane_start(plane, g.destination_channels, g.destination);
    narrow(sum, destinations[results.element(start, at.row, at.col)]);
  };
  for_each_place<ChannelsLast>(g.plan.made, get, put);
}

// S: the stride of forward. Slots: planes of a block at the most.
template <class T, int Slots, int S>
__global__ void __launch_bounds__(kTileThreads, kTileBlocks)
    gather_tiles(const GatherTiles g,
                 const T* __restrict__ sources,   // [n, h, w, c] or [n, c, h, w]
                 const T* __restrict__ filter,    // [kh, kw, c, m]
                 const T* __restrict__ bias,      // [destination channels] or null
                 T* __restrict__ destinations) {  // as sources
  constexpr int kPitch = tile_pitch(Slots);
  const GatherPoints& p = g.problem;
  const TileBlock block = tile_block<S>(g);
  const TilePosition at = tile_position(g.plan.tiles, blockIdx.x, threadIdx.x);
  const int plane = static_cast<int>(at.vector);
  const int row = static_cast<int>(at.row) - block.row;  // of the block's
  const int col = static_cast<int>(at.col) - block.col;
  Sum<T>* held = reinterpret_cast<Sum<T>*>(shared_memory());
  const TileWeights<T> weights = tile_weights(g, block, filter, plane);
  const Places seen_rows = from(block.source_rows, row * S);
  const Places seen_cols = from(block.source_cols, col * S);

  Tile<T, S> tile;
  tile.row_step = g.plan.row_step;
  tile.held =
      held + row * S * tile.row_step + col * S * kPitch + source_of(g, plane) - block.source_plane;
  Sum<T> start = 0;
  if (bias && weights.present) start += widen(bias[weights.channel]);  // a bias of -0 is +0 now
  // skips: what does not exist is skipped, else it is multiplied as zeros
  for (bool skips = false;; skips = true) {
    tile.for_each_sum([&](int, int, Sum<T>& sum) { sum = start; });
    for (int first = 0; first < weights.rows; first += g.plan.span) {
      if (g.plan.vector > 1) {
        hold_sources<true, kChannels<T>, kPitch>(g, block, first, sources, held);
      } else if (p.channels_last) {
        hold_sources<true, 1, kPitch>(g, block, first, sources, held);
      } else {
        hold_sources<false, 1, kPitch>(g, block, first, sources, held);
      }
      __syncthreads();
      if (skips) {
        add_existing<kPitch>(tile, weights, first, g.plan.span, seen_rows, seen_cols);
      } else {
        add_taps<kPitch>(tile, weights, first, g.plan.span);
      }
      __syncthreads();  // the sources are read: the next may come, or the results
    }
    Sum<T> zeros = 0;
    tile.for_each_sum([&](int, int, Sum<T> sum) { zeros += sum * 0; });
    // an infinity or a NaN that met padding has left a NaN; the block goes one way
    if (skips || all_threads(zeros == 0)) break;
  }

  const TileResults results = tile_results(g, block);
  if (p.channels_last && (p.rows.forward || p.multiplier == 1)) {  // no neighbour has a part in it
    if (!weights.present) return;
    const uint32_t start_of_plane = plane_start(plane, g.destination_channels, g.destination);
    tile.for_each_sum([&](int i, int j, Sum<T> sum) {
      if (!results.has(row + i, col + j)) return;
      narrow(sum, destinations[results.element(start_of_plane, row + i, col + j)]);
    });
    return;
  }
  Sum<T>* made = held + (row * g.plan.made.cols + col) * kPitch + plane - block.plane;
  tile.for_each_sum(
      [&](int i, int j, Sum<T> sum) { made[(i * g.plan.made.cols + j) * kPitch] = sum; });
  __syncthreads();
  if (p.channels_last) {
    store_made<true, kPitch>(g, block, results, held, destinations);
  } else {
    store_made<false, kPitch>(g, block, results, held, destinations);
  }
}

}  // namespace tfcompat_dw::cuda
