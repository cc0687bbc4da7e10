/* The made-up libnvidia-ml.so.1, told what to say by a file of the lab host instead of an environment variable. */
#include <stdlib.h>
#define getenv(name) "/etc/machine/nvml.conf"
#include "../../data/nvml/nvml_stub.c"
