// NHWC: how a vector of adjacent output channels is filled from memory.
// No include guard: compiled once per instruction set, see each_isa.h.
//
// `source` reads one pixel of the input side, which holds a value per input channel; `outputs` and
// `put` read and write what holds a value per output channel. `channel` is the first source
// channel.

// A full vector; output and source channels are the same.
template <class S>
struct WholeVector {
  using T = Compute<S>;
  int64_t channel;
  DW_INLINE Vector<T> source(const S* pixel) const { return load(pixel + channel); }
  template <class P>
  DW_INLINE Vector<T> outputs(const P* p) const {
    return load(p);
  }
  template <class P>
  DW_INLINE void put(P* p, Vector<T> v) const {
    store(p, v);
  }
};

// Any other: lane i shows source channel (first output channel + i) / multiplier; lanes from
// `lanes` on are empty.
template <class S>
struct PickedLanes {
  using T = Compute<S>;
  int64_t channel;
  int lanes;
  int channels;   // how many source channels the lanes need
  Index<T> pick;  // lane -> source channel, counted from `channel`
  DW_INLINE Vector<T> source(const S* pixel) const {
    return __builtin_shuffle(load_lanes(pixel + channel, 0, channels), pick);
  }
  template <class P>
  DW_INLINE Vector<T> outputs(const P* p) const {
    return lanes == kLanes<T> ? load(p) : load_lanes(p, 0, lanes);
  }
  template <class P>
  DW_INLINE void put(P* p, Vector<T> v) const {
    lanes == kLanes<T> ? store(p, v) : store_lanes(p, v, lanes);
  }
};

// Where vector v of `count` output channels begins: the last one overlaps its neighbour rather than
// being partly empty, so both hold the same values for the shared lanes.
template <class T>
DW_INLINE int64_t first_lane(int64_t v, int64_t count) {
  return max64(min64(v * kLanes<T>, count - kLanes<T>), 0);
}

template <class S>
DW_INLINE bool needs_picked_lanes(int64_t count, int64_t multiplier) {
  return multiplier > 1 || count < kLanes<Compute<S>>;
}

// One entry per vector of `count` output channels, which begin at a whole input channel.
template <class S>
void fill_picked_lanes(PickedLanes<S>* table, int64_t count, int64_t multiplier) {
  constexpr int kWidth = kLanes<Compute<S>>;
  for (int64_t v = 0; v * kWidth < count; ++v) {
    const int64_t lane = first_lane<Compute<S>>(v, count);
    PickedLanes<S>& entry = table[v];
    entry.lanes = static_cast<int>(min64(kWidth, count - lane));
    entry.channel = lane / multiplier;
    int64_t copy = lane % multiplier;
    int channel = 0;
    for (int i = 0; i < kWidth; ++i) {
      entry.pick[i] = i < entry.lanes ? channel : 0;
      if (i < entry.lanes) entry.channels = channel + 1;
      if (++copy == multiplier) {
        copy = 0;
        ++channel;
      }
    }
  }
}
