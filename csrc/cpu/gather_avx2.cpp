// See each_isa.h.
#define DW_SETS 2
#include "gather.cpp"
