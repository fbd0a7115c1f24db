/* A library of custom operators that misbehaves as its own file name says, for the fault tests.
 *
 * ONNX Runtime calls RegisterCustomOps while it opens a session; NULL means success. The names
 * that start with "late" wait until the process has used some CPU time, which it only does while
 * the model runs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *name(void) {
  static Dl_info info;
  dladdr((void *)name, &info);
  return strrchr(info.dli_fname, '/') + 1;
}

static double cpu_s(void) {
  struct timespec used;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return used.tv_sec + used.tv_nsec / 1e9;
}

static void *wait_then_crash(void *unused) {
  double start = cpu_s();
  while (cpu_s() < start + 0.2) usleep(1000);
  raise(strstr(name(), "kill") ? SIGKILL : SIGSEGV);
  return unused;
}

void *RegisterCustomOps(void *options, const void *api) {
  pthread_t thread;
  (void)options, (void)api;
  if (!strncmp(name(), "late", 4)) pthread_create(&thread, NULL, wait_then_crash, NULL);
  else if (!strncmp(name(), "abort", 5)) write(2, "custom operator: assertion failed\n", 34), abort();
  else if (!strncmp(name(), "segv", 4)) raise(SIGSEGV);
  else if (!strncmp(name(), "kill", 4)) raise(SIGKILL);
  else if (!strncmp(name(), "exit", 4)) exit(7);
  else if (!strncmp(name(), "hang", 4)) for (;;) pause();
  else if (!strncmp(name(), "wild", 4)) write(9, "garbage", 7);
  return NULL;
}
