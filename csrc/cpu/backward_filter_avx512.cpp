// See each_isa.h.
#define DW_SETS 4
#include "backward_filter.cpp"
