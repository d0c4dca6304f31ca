// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Connections to unix sockets.
 */
#include "call.h"

#define AF_UNIX 1
#define PATH_SPACE 108u
/* Every program asks the same few daemons. */
#define CONNECT_SPAN (60 * SECOND)

SEC("tracepoint/syscalls/sys_exit_connect")
int exit_connect_unix(struct exit_args *ctx)
{
	struct pt_regs *regs = call_regs();
	u64 address = argument_of(regs, 1);
	struct sock *sock = socket_of((s32)argument_of(regs, 0));
	s64 result = ctx->result;
	u16 family = 0;
	struct unix_sock *peer = 0;
	struct unix_address *bound = 0;
	struct task_struct *listener = 0;
	struct dentry *dentry = 0;
	/* The address's bytes as words, for the key. */
	u64 words[14] = {};
	struct fold_key key = {};
	struct record_space *s;
	bool is_unix;
	u32 length = 0;
	u64 count;

	bpf_probe_read_user(&family, sizeof(family), (void *)address);
	is_unix = sock && LOOK(sock, __sk_common.skc_family) == AF_UNIX;
	if (!result && is_unix) {
		peer = (void *)BPF_CORE_READ((struct unix_sock *)sock, peer);
		bound = BPF_CORE_READ(peer, addr);
		dentry = BPF_CORE_READ(peer, path.dentry);
		listener = leader_of(BPF_CORE_READ(sock, sk_peer_pid));
	}
	/* Another thread may have changed the address or the descriptor meanwhile. */
	if (family != AF_UNIX && !peer)
		return 0;
	if (bound) {
		length = BPF_CORE_READ(bound, len) - 2;
		if (length > PATH_SPACE)
			length = PATH_SPACE;
		bpf_probe_read_kernel(words, length, (void *)bound + bpf_core_field_offset(struct unix_address, name) + 2);
	} else {
		length = (u32)argument_of(regs, 2) - 2;
		if (length > PATH_SPACE)
			length = PATH_SPACE;
		bpf_probe_read_user(words, length, (void *)(address + 2));
	}
	key.who = own_image();
	for (int i = 0; i < 14; i++)
		key.whom = (key.whom ^ words[i]) * 0x100000001b3ull;
	key.what = (u64)ACT_UNIX_CONNECT << 40 | (u32)result;
	count = fold(&key, CONNECT_SPAN, COUNT_UNIX_CONNECT);
	if (!count)
		return 0;
	s = begin_acts(ACT_UNIX_CONNECT, COUNT_UNIX_CONNECT, count);
	if (!s)
		return 0;
	s->act.numbers[0] = !bound;
	s->act.numbers[COUNT_AT] = count;
	s->act.result = result_of(result);
	if (listener)
		set_target_process(&s->act, listener);
	__builtin_memcpy(s->data, words, PATH_SPACE);
	s->act.text_len[0] = length;
	s->used = length;
	if (dentry)
		put_path_text(s, 1, dentry, BPF_CORE_READ(peer, path.mnt), EXECUTABLE_END);
	end_acts(s, COUNT_UNIX_CONNECT, count, false);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
