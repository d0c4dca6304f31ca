// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Connections and listening sockets; dns.bpf.c has what is read off packets.
 *
 * Who connects or accepts is the process in whose call it happens; the end of a TCP
 * connection comes from wherever the kernel notices it, so its process is kept from
 * the beginning (`connections`): where it asks, or where it is accepted. `on_tcp_state` may
 * run in interrupts, so it builds its records on the stack. In an interrupt of itself it is
 * skipped, and counted as such; an end that it did not see is told by `on_destroy`.
 * A connection that begins in another call than connect(2) (data with the first packet,
 * io_uring) or in the kernel's own threads is told when it asks.
 */
#include "network.h"

#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_CLOSE 7
#define TCP_LISTEN 10
#define ENOENT 2
#define EINTR 4
#define EBADF 9
#define EEXIST 17
#define ENOTSOCK 88
#define EINPROGRESS 115
#define ERESTARTSYS 512
#define IPPROTO_MPTCP 262
#define SOCK_DONE 1 /* enum sock_flags: the other side has ended */

/* A connection from its beginning to its end, by its socket. Its end is told by whoever
 * takes it out of the map. */
struct connection {
	u64 start_ns;  /* with pid: whose it is; 0: the kernel's, whose end is not told */
	u64 opened_ns; /* also the connection's id */
	u32 pid;
	u16 accepted;
	u16 told_open; /* to whoever asked, before the other end answered */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, struct connection);
} connections SEC(".maps");

/* What connect(2) was given; its memory may be changed while it runs, so what TCP made
 * of it takes its place. */
struct destination {
	s64 fd;
	u64 socket; /* that of TCP, once it has asked */
	u64 opened_ns;
	u64 numbers[6]; /* as in the record */
};

/* By thread. One that had to make room is told from its socket. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, struct destination);
} connecting SEC(".maps");

/* The numbers of a connection, from its socket. */
static __always_inline void put_addresses(struct act_record *act, struct sock *sk)
{
	u16 family = LOOK(sk, __sk_common.skc_family);

	act->numbers[0] = family | (u64)LOOK(sk, sk_protocol) << 16;
	act->numbers[1] = LOOK(sk, __sk_common.skc_num) | (u64)bpf_ntohs(LOOK(sk, __sk_common.skc_dport)) << 32;
	if (family == AF_INET6) {
		bpf_probe_read_kernel(&act->numbers[2], 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_probe_read_kernel(&act->numbers[4], 16, &sk->__sk_common.skc_v6_daddr);
	} else {
		act->numbers[2] = LOOK(sk, __sk_common.skc_rcv_saddr);
		act->numbers[4] = LOOK(sk, __sk_common.skc_daddr);
	}
}

/* The same of one that has begun and may be over: then its own port is another's, and `skc_num`
 * no longer has it. */
static __always_inline void put_begun_addresses(struct act_record *act, struct sock *sk)
{
	struct inet_sock *inet = (void *)sk;

	put_addresses(act, sk);
	act->numbers[1] |= bpf_ntohs(LOOK(inet, inet_sport));
}

static __always_inline bool is_internet(u16 family)
{
	return family == AF_INET || family == AF_INET6;
}

/* The socket whose states are those of a connection; 0 where they can't be had. */
static __always_inline struct sock *tcp_of(struct sock *sk)
{
	struct mptcp_sock *mptcp = (void *)sk;
	u16 protocol = LOOK(sk, sk_protocol);

	/* It has several, and begins with this one. */
	if (protocol == IPPROTO_MPTCP && bpf_core_field_exists(mptcp->first))
		return LOOK(mptcp, first);
	return protocol == IPPROTO_TCP ? sk : 0;
}

static __always_inline void tell_close(struct sock *sk, struct connection *connection)
{
	struct tcp_sock *tcp = (void *)sk;
	struct act_record act = {};

	if (!is_wanted(COUNT_NETWORK_CLOSE))
		return;
	begin_on_stack(&act, ACT_CLOSE, connection->start_ns, connection->pid);
	put_begun_addresses(&act, sk);
	act.result = connection->accepted;
	act.numbers[6] = connection->opened_ns;
	act.numbers[7] = LOOK(tcp, bytes_sent) - LOOK(tcp, bytes_retrans);
	/* The other side's end counts as a byte. */
	act.numbers[8] = LOOK(tcp, bytes_received) - ((LOOK(sk, __sk_common.skc_flags) >> SOCK_DONE) & 1);
	send(&act, sizeof(act), COUNT_NETWORK_CLOSE, false);
}

/* Tells the end of a connection that was kept under this key, unless somebody else has, or it
 * never began. What went with the first packet was sent, whether or not the other end answered. */
static __always_inline void tell_end(u64 key, struct connection *ended, bool has_begun)
{
	long error = bpf_map_delete_elem(&connections, &key);
	struct tcp_sock *tcp = (void *)key;

	if (error) {
		/* Kernels before 6.7 refuse what an interrupt asks for during another change. */
		if (error != -ENOENT)
			count_lost(COUNT_NETWORK_CLOSE, 1);
		return;
	}
	if (ended->pid && (has_begun || ended->accepted || ended->told_open || LOOK(tcp, bytes_sent)))
		tell_close((void *)key, ended);
}

/* Sends the record of a connection that has begun, found behind its descriptor, and keeps
 * it until its end. One that ended before its call did was nobody's at its end, so that is told
 * here. Where its end comes just now, its state may not be stored yet: then `on_destroy` finds it. */
static __noinline int tell_begun(struct record_space *s, struct sock *sk, u32 count_as)
{
	bool is_accepted = count_as == COUNT_NETWORK_ACCEPT, has_begun, is_kept;
	struct connection begun = {}, *known = 0;
	struct sock *tcp;
	u64 key;

	if (!s)
		return 0;
	s->act.numbers[6] = s->act.head.at_ns;
	tcp = tcp_of(sk);
	key = (u64)tcp;
	if (tcp && !is_accepted)
		known = bpf_map_lookup_elem(&connections, &key);
	/* It had asked in an earlier call. */
	if (known && known->pid && !known->accepted) {
		s->act.numbers[6] = known->opened_ns;
		tcp = 0;
	}
	if (!tcp) {
		/* Its paths can't be looked at any more. */
		if (!known && LOOK(sk, sk_protocol) == IPPROTO_MPTCP)
			count_lost(COUNT_NETWORK_CLOSE, 1);
		end_act(s, count_as, false);
		return 0;
	}
	begun.start_ns = s->act.head.start_ns;
	begun.opened_ns = s->act.head.at_ns;
	begun.pid = s->act.head.pid;
	begun.accepted = is_accepted;
	/* One that is still asked for (EINPROGRESS) has not. */
	has_begun = !s->act.result || LOOK(tcp, __sk_common.skc_state) == TCP_ESTABLISHED;
	/* Its end will find nothing to tell. Where there is one already, this socket was closed by
	 * another thread just now, and its memory is another connection's. */
	is_kept = !bpf_map_update_elem(&connections, &key, &begun, is_accepted ? BPF_NOEXIST : BPF_ANY);
	if (!is_kept)
		count_lost(COUNT_NETWORK_CLOSE, 1);
	end_act(s, count_as, false);
	if (is_kept && LOOK(tcp, __sk_common.skc_state) == TCP_CLOSE)
		tell_end(key, &begun, has_begun);
	return 0;
}

/* What connect(2) was given, from its caller's memory; false where that is no address of
 * the internet. */
static __always_inline bool read_given(struct destination *given, const void *address)
{
	u16 family = 0, port = 0;

	if (bpf_probe_read_user(&family, sizeof(family), address) || !is_internet(family))
		return false;
	bpf_probe_read_user(&port, sizeof(port), address + 2);
	given->numbers[0] = family;
	given->numbers[1] = (u64)bpf_ntohs(port) << 32;
	if (family == AF_INET6)
		bpf_probe_read_user(&given->numbers[4], 16, address + 8);
	else
		bpf_probe_read_user(&given->numbers[4], 4, address + 4);
	return true;
}

/* The same at the end of a call whose note had to make room. */
static __always_inline bool read_given_late(struct destination *given)
{
	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return false;
	given->fd = (s32)call_argument(0);
	return read_given(given, (const void *)call_argument(1));
}

SEC("tracepoint/syscalls/sys_enter_connect")
int enter_connect(struct enter_args *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct destination given = { .fd = (s32)ctx->args[0] };

	if (read_given(&given, (const void *)ctx->args[1]))
		bpf_map_update_elem(&connecting, &thread, &given, BPF_ANY);
	return 0;
}

/* The numbers of a connection that TCP asked for: its socket knows its own end better by
 * now, unless it failed, or is gone and its memory another's. */
static __always_inline void put_asked(struct act_record *act, struct destination *asked)
{
	put_addresses(act, (struct sock *)asked->socket);
	if (act->numbers[0] != asked->numbers[0] || (act->numbers[1] ^ asked->numbers[1]) >> 32 ||
	    act->numbers[4] != asked->numbers[4] || act->numbers[5] != asked->numbers[5])
		__builtin_memcpy(act->numbers, asked->numbers, sizeof(asked->numbers));
}

/* Tells a connection that TCP asked for within connect(2), whatever its descriptor stands for
 * by now: another thread may have closed or exchanged it while this one waited. */
static __noinline int tell_asked(struct destination *asked, s64 result)
{
	struct sock *sk;
	struct connection *known;
	struct record_space *s;
	bool is_unanswered;

	if (!asked)
		return 0;
	s = begin_act(ACT_CONNECT, COUNT_NETWORK_CONNECT);
	if (!s)
		return 0;
	put_asked(&s->act, asked);
	s->act.result = (s32)result;
	/* One that failed as well: its other end may have ended it before this call was over. */
	s->act.numbers[6] = asked->opened_ns;
	sk = (void *)asked->socket;
	is_unanswered = !result && LOOK(sk, __sk_common.skc_state) == TCP_SYN_SENT;
	if (is_unanswered || result == -EINTR || result == -ERESTARTSYS) {
		known = bpf_map_lookup_elem(&connections, &asked->socket);
		if (known && known->opened_ns != asked->opened_ns)
			known = 0;
		if (known && is_unanswered)
			known->told_open = 1;
		/* A signal ends the wait for a connection, and not the connection. */
		else if (known)
			s->act.result = -EINPROGRESS;
	}
	end_act(s, COUNT_NETWORK_CONNECT, false);
	return 0;
}

/* Whether a descriptor's socket is the one that connect(2) was called for, as far as that can
 * be seen: numbers of descriptors are given anew. One that failed has forgotten its other end. */
static __always_inline bool is_for(struct sock *sk, struct destination *given, bool is_open)
{
	u16 port;

	if (!sk || !is_internet(LOOK(sk, __sk_common.skc_family)))
		return false;
	port = LOOK(sk, __sk_common.skc_dport);
	return !is_open || !port || bpf_ntohs(port) == given->numbers[1] >> 32;
}

/* Tells a connect(2) in which TCP asked for nothing, or whose note is gone. */
static __noinline int tell_by_descriptor(struct destination *given, s64 result)
{
	bool is_open = !result || result == -EINPROGRESS;
	struct record_space *s;
	struct sock *sk;

	if (!given)
		return 0;
	sk = socket_of(given->fd);
	/* Datagrams are told with the first that is sent: connecting sends none. */
	if (sk && LOOK(sk, sk_protocol) == IPPROTO_UDP)
		return 0;
	if (!is_for(sk, given, is_open)) {
		/* Another thread exchanged it, unless it was none from the beginning: then the call failed. */
		if (is_open || (!sk && result != -EBADF && result != -ENOTSOCK))
			count_lost(COUNT_NETWORK_CONNECT, 1);
		return 0;
	}
	s = begin_act(ACT_CONNECT, COUNT_NETWORK_CONNECT);
	if (!s)
		return 0;
	put_addresses(&s->act, sk);
	/* A socket that failed has forgotten whom it asked for. */
	if (!is_open || !(s->act.numbers[1] >> 32)) {
		s->act.numbers[1] = (u32)s->act.numbers[1] | given->numbers[1];
		if ((u16)s->act.numbers[0] == (u16)given->numbers[0]) {
			s->act.numbers[4] = given->numbers[4];
			s->act.numbers[5] = given->numbers[5];
		}
	}
	s->act.result = (s32)result;
	if (is_open)
		return tell_begun(s, sk, COUNT_NETWORK_CONNECT);
	end_act(s, COUNT_NETWORK_CONNECT, false);
	return 0;
}

/* A connect(2) whose note had to make room, and whose caller no longer has the address of the
 * internet that it may have given: told from its socket. */
static __noinline int tell_unread(struct destination *given, s64 result)
{
	struct sock *sk;

	if (!given || (result && result != -EINPROGRESS))
		return 0;
	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return 0;
	given->fd = (s32)call_argument(0);
	sk = socket_of(given->fd);
	if (!sk || !is_internet(LOOK(sk, __sk_common.skc_family)))
		return 0;
	given->numbers[0] = LOOK(sk, __sk_common.skc_family);
	given->numbers[1] = (u64)bpf_ntohs(LOOK(sk, __sk_common.skc_dport)) << 32;
	/* It was called to forget its other end. */
	if (!given->numbers[1])
		return 0;
	return tell_by_descriptor(given, result);
}

SEC("tracepoint/syscalls/sys_exit_connect")
int exit_connect(struct exit_args *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct destination *noted = bpf_map_lookup_elem(&connecting, &thread), given = {};

	if (noted) {
		given = *noted;
		bpf_map_delete_elem(&connecting, &thread);
	} else if (!read_given_late(&given)) {
		return tell_unread(&given, ctx->result);
	}
	return given.socket ? tell_asked(&given, ctx->result) : tell_by_descriptor(&given, ctx->result);
}

/* Whether what can't be found, or is no socket of the internet any more, was accepted from there, for
 * all that is known: the listener says so, or it is gone as well. */
static __always_inline bool was_internets(bool is_gone)
{
	struct sock *listener;

	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return is_gone;
	listener = socket_of((s32)call_argument(0));
	return listener ? is_internet(LOOK(listener, __sk_common.skc_family)) : is_gone;
}

static __always_inline int accepted(struct exit_args *ctx)
{
	struct record_space *s;
	struct sock *sk;

	if (ctx->result < 0)
		return 0;
	sk = socket_of(ctx->result);
	if (!sk || !is_internet(LOOK(sk, __sk_common.skc_family))) {
		/* Another thread was quick to close or exchange it. */
		if (was_internets(!sk))
			count_lost(COUNT_NETWORK_ACCEPT, 1);
		return 0;
	}
	s = begin_act(ACT_ACCEPT, COUNT_NETWORK_ACCEPT);
	if (!s)
		return 0;
	put_begun_addresses(&s->act, sk);
	return tell_begun(s, sk, COUNT_NETWORK_ACCEPT);
}

SEC("tracepoint/syscalls/sys_exit_accept4")
int exit_accept4(struct exit_args *ctx)
{
	return accepted(ctx);
}

SEC("tracepoint/syscalls/sys_exit_accept")
int exit_accept(struct exit_args *ctx)
{
	return accepted(ctx);
}

/* A datagram socket with a port of its own waits for whoever sends. */
SEC("tracepoint/syscalls/sys_enter_bind")
int enter_bind(struct enter_args *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct call call = {};

	/* A program that reads more arguments than the call has can't be attached to it. */
	call.args[0] = ctx->args[0];
	bpf_map_update_elem(&calls, &thread, &call, BPF_ANY);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_bind")
int exit_bind(struct exit_args *ctx)
{
	struct record_space *s;
	struct sock *sk;
	struct call call;

	if (!take_call(&call)) {
		/* Another needed its place. */
		if (!ctx->result)
			count_lost(COUNT_NETWORK_LISTEN, 1);
		return 0;
	}
	if (ctx->result)
		return 0;
	sk = socket_of((s32)call.args[0]);
	if (!sk || !is_internet(LOOK(sk, __sk_common.skc_family)))
		return 0;
	if (LOOK(sk, sk_protocol) != IPPROTO_UDP || !LOOK(sk, __sk_common.skc_num))
		return 0;
	s = begin_act(ACT_LISTEN, COUNT_NETWORK_LISTEN);
	if (!s)
		return 0;
	put_addresses(&s->act, sk);
	end_act(s, COUNT_NETWORK_LISTEN, false);
	return 0;
}

static __always_inline void tell_listen(struct sock *sk)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct task_struct *leader = task->group_leader;
	struct act_record act = {};

	if (is_agent(leader) || !is_wanted(COUNT_NETWORK_LISTEN))
		return;
	begin_on_stack(&act, ACT_LISTEN, leader->start_boottime, leader->tgid);
	put_addresses(&act, sk);
	send(&act, sizeof(act), COUNT_NETWORK_LISTEN, false);
}

/* A connection asks for its other end, still in the call of whoever wants it. What its own
 * connect(2) will tell is noted for that; what is in no such call is told now. */
static __noinline int asks(struct sock *sk)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct task_struct *leader = task->group_leader;
	u64 thread = bpf_get_current_pid_tgid(), key = (u64)sk;
	struct destination *given = bpf_map_lookup_elem(&connecting, &thread);
	bool is_calls = given && !given->socket;
	struct connection connection = {};
	struct act_record act = {};
	long error;

	if (is_agent(leader) || (!is_calls && !is_wanted(COUNT_NETWORK_CONNECT)))
		return 0;
	/* The kernel's own threads are nobody. */
	if (task->flags & PF_KTHREAD)
		begin_on_stack(&act, ACT_CONNECT, 0, 0);
	else
		begin_on_stack(&act, ACT_CONNECT, leader->start_boottime, leader->tgid);
	put_addresses(&act, sk);
	connection.start_ns = act.head.start_ns;
	connection.opened_ns = act.head.at_ns;
	connection.pid = act.head.pid;
	error = bpf_map_update_elem(&connections, &key, &connection, BPF_NOEXIST);
	/* There is one whose end was not seen, as it was disconnected and asks again. */
	if (error == -EEXIST)
		bpf_map_update_elem(&connections, &key, &connection, BPF_ANY);
	if (error)
		count_lost(COUNT_NETWORK_CLOSE, 1);
	if (given && is_calls) {
		__builtin_memcpy(given->numbers, act.numbers, sizeof(given->numbers));
		given->opened_ns = connection.opened_ns;
		given->socket = key;
		return 0;
	}
	act.result = -EINPROGRESS;
	act.numbers[6] = connection.opened_ns;
	send(&act, sizeof(act), COUNT_NETWORK_CONNECT, false);
	return 0;
}

static __noinline int ends(struct sock *sk, int before)
{
	u64 key = (u64)sk;
	struct connection *connection = bpf_map_lookup_elem(&connections, &key), ended;

	if (!connection)
		return 0;
	ended = *connection;
	tell_end(key, &ended, before != TCP_SYN_SENT && before != TCP_SYN_RECV);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int on_tcp_state(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	switch ((int)ctx[2]) {
	case TCP_LISTEN:
		tell_listen(sk);
		return 0;
	case TCP_SYN_SENT:
		return asks(sk);
	case TCP_CLOSE:
		return ends(sk, (int)ctx[1]);
	}
	return 0;
}

/* A socket of TCP is about to go: nothing is left of it in `connections` unless its end came in
 * an interrupt of the program above, or while it was accepted. This one may be skipped as well,
 * but not for the same end: an interrupt comes to one of them, and no other to that. */
SEC("tp_btf/tcp_destroy_sock")
int on_destroy(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	u64 key = (u64)sk;
	struct connection *connection = bpf_map_lookup_elem(&connections, &key), ended;
	struct tcp_sock *tcp = (void *)sk;

	if (!connection)
		return 0;
	ended = *connection;
	/* How it asked for the connection counts as a byte that was acknowledged. */
	tell_end(key, &ended, LOOK(tcp, bytes_acked));
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
