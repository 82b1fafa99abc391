// See each_isa.h.
#define DW_SETS 4
#include "gather.cpp"
