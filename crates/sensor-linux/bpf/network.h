/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * What the programs at sockets and those at packets have in common.
 */
#ifndef RAMPART_NETWORK_H
#define RAMPART_NETWORK_H

#include "act.h"

#include <bpf/bpf_endian.h>

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17

/* For programs that may run in interrupts: their record is not in the shared space. */
static __always_inline void begin_on_stack(struct act_record *act, u16 type, u64 start_ns, u32 pid)
{
	act->head.magic = RECORD_MAGIC;
	act->head.type = type;
	act->head.size = sizeof(*act);
	act->head.pid = pid;
	act->head.at_ns = bpf_ktime_get_boot_ns();
	act->head.start_ns = start_ns;
}

#endif
