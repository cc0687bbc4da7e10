/* The processor affinity of a machine with CPUS processors, for a lab host: the rest of it is in its /sys.
   cc -shared -fPIC -DCPUS=64 -o affinity.so affinity.c; named in the host's /etc/ld.so.preload. */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>

int sched_getaffinity(pid_t pid, size_t size, void *mask) {
  (void)pid;
  if (size < CPUS / 8) {
    errno = EINVAL;
    return -1;
  }
  memset(mask, 0, size);
  memset(mask, 0xff, CPUS / 8);
  return 0;
}
