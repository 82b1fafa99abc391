// NHWC: vectors of adjacent channels. No include guard: see each_isa.h.

// Where vector v of `count` channels begins: the last one overlaps its neighbour rather than being
// partly empty, so both hold the same values for the shared lanes.
template <class T>
DW_INLINE int64_t first_lane(int64_t v, int64_t count) {
  return max64(min64(v * kLanes<T>, count - kLanes<T>), 0);
}

// Where the output channels of one vector come from in a pixel of the input: lane i shows channel
// (first output channel + i) / multiplier, lanes from `lanes` on are empty.
template <class S>
struct PickedLanes {
  using T = Compute<S>;
  int64_t channel;  // the first that is read
  int lanes;
  int channels;   // how many are read
  Index<T> pick;  // lane -> channel, counted from `channel`
  DW_INLINE Vector<T> source(const S* pixel) const {
    return permute(load_lanes(pixel + channel, 0, channels), pick);
  }
};

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
