/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * Flows of datagrams.
 *
 * A flow is what one process sends from one socket to one other end. It is told with
 * its first datagram, as accepted where the other end sent first, and again once it was
 * silent for long; its end is told with that of its socket.
 */
#ifndef RAMPART_DATAGRAM_H
#define RAMPART_DATAGRAM_H

#include "network.h"

#define SECOND 1000000000ull
/* As long as the kernel's own connection tracking keeps a stream of datagrams. */
#define SILENCE (120 * SECOND)

struct flow {
	u64 local[2];
	u64 remote[2];
	u16 local_port;
	u16 remote_port;
	u32 id;       /* of a DNS query, with bit 16; 0 for a flow */
	u64 socket;   /* its cookie */
	u64 owner_ns; /* the start of the process that sends; 0 for what comes in */
};

/* It is a key, so it must not have bytes that nobody sets. */
_Static_assert(sizeof(struct flow) == 56, "struct flow");

struct traffic {
	u64 opened_ns; /* also the flow's id */
	u64 last_ns;
	u64 bytes;
	u32 pid;
	u16 family;
	u16 from_outside; /* 1: the other end sent first */
};

/* What was told, so that it is not told with each datagram: one that is dropped from
 * here is told again. And, with owner 0, what comes in. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct flow);
	__type(value, struct traffic);
} flows SEC(".maps");

/* Sockets with flows that were told, for their end. */
struct talker {
	struct flow first;
	u64 flows;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, struct talker);
} talkers SEC(".maps");

struct packet {
	struct flow flow;
	u16 family;
	u16 protocol;
	u32 payload; /* where the data begins */
	u32 length;  /* of the data */
	u32 is_raw;  /* 1: it was sent past the kernel's protocols */
};

static __always_inline void put_flow(struct act_record *act, struct flow *flow, u16 family, u16 protocol)
{
	act->numbers[0] = family | (u64)protocol << 16;
	act->numbers[1] = flow->local_port | (u64)flow->remote_port << 32;
	act->numbers[2] = flow->local[0];
	act->numbers[3] = flow->local[1];
	act->numbers[4] = flow->remote[0];
	act->numbers[5] = flow->remote[1];
}

/* Who sends at this moment; the kernel's own threads are nobody. */
static __always_inline void begin_own(struct act_record *act, u16 type)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct task_struct *leader = task->group_leader;

	if (task->flags & PF_KTHREAD)
		begin_on_stack(act, type, 0, 0);
	else
		begin_on_stack(act, type, leader->start_boottime, leader->tgid);
}

static __always_inline bool is_silent(struct traffic *traffic, u64 now)
{
	return (s64)(now - traffic->last_ns) >= (s64)SILENCE;
}

/* Enters a flow for the end of its socket. */
static __noinline int keep_for_end(struct flow *flow)
{
	struct talker *talker, first = {};

	if (!flow)
		return 0;
	talker = bpf_map_lookup_elem(&talkers, &flow->socket);
	if (talker) {
		__sync_fetch_and_add(&talker->flows, 1);
		return 0;
	}
	first.first = *flow;
	first.flows = 1;
	if (!bpf_map_update_elem(&talkers, &flow->socket, &first, BPF_NOEXIST))
		return 0;
	/* There is no room, unless another CPU was faster. */
	talker = bpf_map_lookup_elem(&talkers, &flow->socket);
	if (talker)
		__sync_fetch_and_add(&talker->flows, 1);
	else
		count_lost(COUNT_NETWORK_CLOSE, 1);
	return 0;
}

/* A flow is over: its socket has ended, or it was silent for long. */
static __noinline int tell_end(struct flow *flow, struct traffic *sent)
{
	struct traffic *received;
	struct act_record act = {};
	u64 owner_ns;

	if (!flow || !sent || !is_wanted(COUNT_NETWORK_CLOSE))
		return 0;
	owner_ns = flow->owner_ns;
	begin_on_stack(&act, ACT_CLOSE, sent->pid ? owner_ns : 0, sent->pid);
	put_flow(&act, flow, sent->family, IPPROTO_UDP);
	act.result = sent->from_outside;
	act.numbers[6] = sent->opened_ns;
	act.numbers[7] = sent->bytes;
	flow->owner_ns = 0;
	received = bpf_map_lookup_elem(&flows, flow);
	flow->owner_ns = owner_ns;
	if (received)
		act.numbers[8] = received->bytes;
	send(&act, sizeof(act), COUNT_NETWORK_CLOSE, false);
	return 0;
}

#define GOES_ON 0
#define WAS_SILENT 1
#define IS_NEW 2

/* Adds a datagram that is sent to its flow, and tells the end of one that was silent. Apart
 * from where a flow begins: the acts of both are more than the kernel lets stand on the stack
 * at once (src/families/stack.rs). */
static __noinline int adds_to_flow(struct packet *packet)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	u64 now = bpf_ktime_get_boot_ns();
	struct traffic *sent;

	if (!packet)
		return GOES_ON;
	/* 0 stands for what comes in. */
	packet->flow.owner_ns = task->flags & PF_KTHREAD ? 1 : task->group_leader->start_boottime;
	sent = bpf_map_lookup_elem(&flows, &packet->flow);
	if (!sent)
		return IS_NEW;
	if (is_silent(sent, now)) {
		tell_end(&packet->flow, sent);
		return WAS_SILENT;
	}
	sent->last_ns = now;
	__sync_fetch_and_add(&sent->bytes, packet->length);
	return GOES_ON;
}

/* Returns whether a process has the flow: its end comes with that of its socket. */
static __noinline int begin_flow(struct packet *packet)
{
	struct traffic *received, begun = {};
	struct act_record act = {};
	struct flow *flow;
	u64 owner_ns;
	u32 count_as = COUNT_NETWORK_CONNECT;

	if (!packet)
		return 0;
	flow = &packet->flow;
	owner_ns = flow->owner_ns;
	begin_own(&act, ACT_CONNECT);
	begun.opened_ns = begun.last_ns = act.head.at_ns;
	flow->owner_ns = 0;
	received = bpf_map_lookup_elem(&flows, flow);
	if (!received || is_silent(received, begun.last_ns))
		bpf_map_update_elem(&flows, flow, &begun, BPF_ANY);
	else
		begun.from_outside = received->from_outside;
	flow->owner_ns = owner_ns;
	begun.pid = act.head.pid;
	begun.family = packet->family;
	begun.bytes = packet->length;
	bpf_map_update_elem(&flows, flow, &begun, BPF_ANY);
	if (begun.from_outside) {
		act.head.type = ACT_ACCEPT;
		count_as = COUNT_NETWORK_ACCEPT;
	}
	put_flow(&act, flow, packet->family, packet->protocol);
	act.numbers[6] = begun.opened_ns;
	if (is_wanted(count_as))
		send(&act, sizeof(act), count_as, false);
	return act.head.start_ns && !packet->is_raw;
}

/* A datagram is sent. */
static __always_inline void sends(struct packet *packet)
{
	int flow = adds_to_flow(packet);

	if (flow != GOES_ON && begin_flow(packet) && flow == IS_NEW)
		keep_for_end(&packet->flow);
}

static __always_inline void receives(struct packet *packet)
{
	struct traffic *received = bpf_map_lookup_elem(&flows, &packet->flow), begun = { .from_outside = 1 };
	u64 now = bpf_ktime_get_boot_ns();

	if (received && !is_silent(received, now)) {
		received->last_ns = now;
		__sync_fetch_and_add(&received->bytes, packet->length);
		return;
	}
	begun.opened_ns = begun.last_ns = now;
	begun.bytes = packet->length;
	bpf_map_update_elem(&flows, &packet->flow, &begun, BPF_ANY);
}

struct ended_socket {
	u64 socket;
	u64 told; /* ends of its flows */
};

static long end_flow(void *map, struct flow *flow, struct traffic *sent, struct ended_socket *ended)
{
	struct flow own = *flow;

	if (own.socket != ended->socket || !own.owner_ns)
		return 0;
	tell_end(&own, sent);
	bpf_map_delete_elem(map, &own);
	/* Those of the kernel's threads were not entered for this. */
	if (own.owner_ns != 1)
		ended->told++;
	return 0;
}

#endif
