/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * Acts: what the programs besides process.bpf.c tell. Which numbers and texts an
 * act has stands beside its number; src/act/ turns them into fields.
 */
#ifndef RAMPART_ACT_H
#define RAMPART_ACT_H

#include "ring.h"

/* target: the traced process; numbers: 0 request. result of the call. */
#define ACT_PTRACE 16

/* Network: 96 to 127. numbers of all of them: 0 family | protocol << 16, 1 local port |
 * remote port << 32, 2 and 3 local address, 4 and 5 remote address (IPv4 in the first
 * four bytes), 6 when the connection was opened (its id, too), 7 bytes sent, 8 bytes
 * received. result of the call. */
#define ACT_CONNECT 96
#define ACT_ACCEPT 97
#define ACT_CLOSE 98 /* result: 1 where it had been accepted, 0 where it had been opened */
#define ACT_LISTEN 99
/* text 0: the DNS message, cut after 1,232 bytes. */
#define ACT_DNS_QUERY 100
#define ACT_DNS_ANSWER 101

/* Texts that are paths: a list of names from the last to the first, as in struct
 * exec_record. Others are plain, without an ending zero. */

/* The context of a program at syscalls/sys_enter_* and sys_exit_*. */
struct enter_args {
	u64 common;
	s64 number;
	u64 args[6];
};

struct exit_args {
	u64 common;
	s64 number;
	s64 result;
};

/* What a call was given, from its beginning to its end, by thread. One whose thread
 * ends in between stays until another needs its place. */
struct call {
	u64 args[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, struct call);
} calls SEC(".maps");

static __always_inline void keep_call(struct enter_args *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct call call;

	__builtin_memcpy(call.args, ctx->args, sizeof(call.args));
	bpf_map_update_elem(&calls, &thread, &call, BPF_ANY);
}

/* The call that ends now; false if its beginning was not seen. */
static __always_inline bool take_call(struct call *call)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct call *kept = bpf_map_lookup_elem(&calls, &thread);

	if (!kept)
		return false;
	*call = *kept;
	bpf_map_delete_elem(&calls, &thread);
	return true;
}

static __always_inline bool is_agent(struct task_struct *leader)
{
	u32 zero = 0;
	struct control *settings = bpf_map_lookup_elem(&control, &zero);

	return settings && settings->own_pid == (u32)leader->tgid && settings->own_start_ns == leader->start_boottime;
}

/* Begins the record of an act of the current process; 0 where none is to be made:
 * it is the agent's own, the class is left out, or a thread of the kernel. */
static __always_inline struct record_space *begin_act(u16 type, u32 count_as)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct task_struct *leader = task->group_leader;
	struct record_space *s;
	u32 zero = 0;

	if ((task->flags & PF_KTHREAD) || is_agent(leader) || !is_wanted(count_as))
		return 0;
	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!s)
		return 0;
	__builtin_memset(&s->act, 0, sizeof(s->act));
	fill_head(&s->act.head, type, 0, leader);
	s->used = 0;
	return s;
}

/* Whom it was done to: the process that has this PID in the initial namespace. */
static __always_inline void set_target(struct act_record *act, u32 pid)
{
	u64 *start_ns = bpf_map_lookup_elem(&clock, &pid);

	act->target_pid = pid;
	if (start_ns)
		act->target_start_ns = *start_ns;
}

static __always_inline void end_act(struct record_space *s, u32 count_as, bool at_once)
{
	u32 size = s->used;

	if (size > DATA_SPACE)
		return;
	size += sizeof(struct act_record);
	s->act.head.size = size;
	send(&s->act, size, count_as, at_once);
}

#endif
