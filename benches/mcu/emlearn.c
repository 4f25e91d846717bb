// emlearn's policy on mps2-an386, without an operating system: instructions of one action, by semihosting.
#include <stdint.h>
#include <string.h>
#include "policy.h"
extern uint32_t _estack, _sbss, _ebss, _sdata, _edata, _ldata;
void reset(void);
__attribute__((section(".vectors"), used)) void *const vectors[16] = {&_estack, (void *)reset};
static int host(int op, void *arg) {
    register int r0 __asm("r0") = op; register void *r1 __asm("r1") = arg;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory"); return r0;
}
static void number(uint32_t n) { char t[12]; int i = 11; t[i] = 0; do t[--i] = '0' + n % 10; while (n /= 10); host(4, t + i); }
void run(void) {
    volatile uint32_t *syst = (uint32_t *)0xe000e010;
    float in[17], out[6];
    for (int i = 0; i < 17; i++) in[i] = 0.1f * i - 0.8f;
    syst[1] = 0xffffff; syst[2] = 0; syst[0] = 5;
    uint32_t begin = syst[2];
    int bad = policy_regress(in, 17, out, 6);
    uint32_t ticks = (begin - syst[2]) & 0xffffff;
    host(4, "instructions "); number(ticks * 40); host(4, bad ? " failed\n" : "\n");
    host(4, "first action / 1e-6: "); number((uint32_t)(out[0] * 1e6f)); host(4, "\n");
    uint32_t stop[2] = {0x20026, 0}; host(0x20, stop);
    for (;;);
}
void reset(void) {
    *(volatile uint32_t *)0xe000ed88 |= 0xf << 20;
    __asm volatile("dsb\nisb");
    memcpy(&_sdata, &_ldata, (char *)&_edata - (char *)&_sdata);
    memset(&_sbss, 0, (char *)&_ebss - (char *)&_sbss);
    run();
}
