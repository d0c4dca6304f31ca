// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Processes that change whom they run as, or what they may.
 */
#include "call.h"

struct identity {
	u32 uid, euid, suid, gid, egid, sgid;
	u64 effective, permitted, inheritable;
};

/* Who a thread was when its call began. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, struct identity);
} before SEC(".maps");

static __always_inline void read_identity(struct identity *identity)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	const struct cred *cred = task->cred;

	identity->uid = cred->uid.val;
	identity->euid = cred->euid.val;
	identity->suid = cred->suid.val;
	identity->gid = cred->gid.val;
	identity->egid = cred->egid.val;
	identity->sgid = cred->sgid.val;
	__builtin_memcpy(&identity->effective, (void *)&cred->cap_effective, sizeof(u64));
	__builtin_memcpy(&identity->permitted, (void *)&cred->cap_permitted, sizeof(u64));
	__builtin_memcpy(&identity->inheritable, (void *)&cred->cap_inheritable, sizeof(u64));
}

static __always_inline int call_begins(void)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct identity now;

	read_identity(&now);
	bpf_map_update_elem(&before, &thread, &now, BPF_ANY);
	return 0;
}

/* Another thread needed its place. */
static __always_inline int is_forgotten(void)
{
	count_lost(COUNT_PRIVILEGE_CHANGE, 1);
	return 0;
}

static __always_inline u64 pair(u32 upper, u32 lower)
{
	return (u64)upper << 32 | lower;
}

static __always_inline void put_ids(u64 *numbers, struct identity *identity)
{
	numbers[0] = pair(identity->uid, identity->euid);
	numbers[1] = pair(identity->suid, identity->gid);
	numbers[2] = pair(identity->egid, identity->sgid);
}

static __always_inline bool same_ids(struct identity *a, struct identity *b)
{
	return a->uid == b->uid && a->euid == b->euid && a->suid == b->suid && a->gid == b->gid && a->egid == b->egid &&
	       a->sgid == b->sgid;
}

/* All threads of a process change over one by one. */
static __always_inline u64 count_alike(u64 whom, u64 what, s64 result)
{
	struct fold_key key = { .who = own_leader()->start_boottime, .whom = whom, .what = what };

	if (result)
		key.what |= 1ull << 32;
	return fold(&key, SECOND, COUNT_PRIVILEGE_CHANGE);
}

static __always_inline int call_ends(struct exit_args *ctx, u32 call)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct identity *was = bpf_map_lookup_elem(&before, &thread);
	struct identity now;
	struct record_space *s;
	u64 count;

	if (!was)
		return is_forgotten();
	read_identity(&now);
	if (!ctx->result && same_ids(was, &now))
		return 0;
	/* A failure is known by what was asked for. */
	count = count_alike(ctx->result ? call_argument(0) : pair(now.euid, now.egid) ^ ((u64)now.uid << 16), (u64)ACT_IDS << 40 | call,
			    ctx->result);
	if (!count)
		return 0;
	s = begin_acts(ACT_IDS, COUNT_PRIVILEGE_CHANGE, count);
	if (!s)
		return 0;
	s->act.numbers[0] = call;
	put_ids(&s->act.numbers[1], was);
	put_ids(&s->act.numbers[4], &now);
	s->act.numbers[7] = call_argument(0);
	s->act.numbers[COUNT_AT] = count;
	s->act.result = result_of(ctx->result);
	end_acts(s, COUNT_PRIVILEGE_CHANGE, count, false);
	return 0;
}

#define WATCH(name, call)                                     \
	SEC("tracepoint/syscalls/sys_enter_" #name)           \
	int enter_##name(struct enter_args *ctx __attribute__((unused))) \
	{                                                     \
		return call_begins();                         \
	}                                                     \
	SEC("tracepoint/syscalls/sys_exit_" #name)            \
	int exit_##name(struct exit_args *ctx)                \
	{                                                     \
		return call_ends(ctx, call);                  \
	}

WATCH(setuid, CALL_SETUID)
WATCH(setreuid, CALL_SETREUID)
WATCH(setresuid, CALL_SETRESUID)
WATCH(setgid, CALL_SETGID)
WATCH(setregid, CALL_SETREGID)
WATCH(setresgid, CALL_SETRESGID)

SEC("tracepoint/syscalls/sys_enter_capset")
int enter_capset(struct enter_args *ctx __attribute__((unused)))
{
	return call_begins();
}

SEC("tracepoint/syscalls/sys_exit_capset")
int exit_capset(struct exit_args *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct identity *was = bpf_map_lookup_elem(&before, &thread);
	struct identity now;
	struct record_space *s;
	u64 count;

	if (!was)
		return is_forgotten();
	read_identity(&now);
	if (!ctx->result && was->effective == now.effective && was->permitted == now.permitted &&
	    was->inheritable == now.inheritable)
		return 0;
	count = count_alike(now.effective ^ (now.inheritable << 21), (u64)ACT_CAPSET << 40, ctx->result);
	if (!count)
		return 0;
	s = begin_acts(ACT_CAPSET, COUNT_PRIVILEGE_CHANGE, count);
	if (!s)
		return 0;
	s->act.numbers[1] = was->effective;
	s->act.numbers[2] = was->permitted;
	s->act.numbers[3] = was->inheritable;
	s->act.numbers[4] = now.effective;
	s->act.numbers[5] = now.permitted;
	s->act.numbers[6] = now.inheritable;
	s->act.numbers[COUNT_AT] = count;
	s->act.result = result_of(ctx->result);
	end_acts(s, COUNT_PRIVILEGE_CHANGE, count, false);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
