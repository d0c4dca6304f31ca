// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Connections and listening sockets; dns.bpf.c has what is read off packets.
 *
 * Who connects or accepts is the process in whose call it happens; the end of a TCP
 * connection comes from wherever the kernel notices it, so its process is kept from
 * the beginning (`connections`). That program may run in interrupts, so it builds its
 * records on the stack. A connection that begins in another call than connect(2) (data
 * with the first packet, io_uring) or in the kernel's own threads is told when it asks.
 */
#include "network.h"

#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_CLOSE 7
#define TCP_LISTEN 10
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define EINPROGRESS 115
#define SOCK_DONE 1 /* enum sock_flags: the other side has ended */

/* A connection from its beginning to its end, by its socket. */
struct connection {
	u64 start_ns;  /* with pid: whose it is */
	u64 opened_ns; /* also the connection's id */
	u32 pid;
	u16 established;
	u16 accepted;
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
	u16 family;
	u16 port; /* network order */
	u32 asked; /* 1: TCP has */
	u64 address[2];
};

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

/* The socket behind a descriptor of the current process; 0 where it is none. */
static __always_inline struct sock *socket_of(s64 fd)
{
	struct file *file = file_of((u32)fd);
	struct socket *socket;

	if (!file || (LOOK(LOOK(file, f_inode), i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = LOOK(file, private_data);
	return socket ? LOOK(socket, sk) : 0;
}

static __always_inline bool is_internet(u16 family)
{
	return family == AF_INET || family == AF_INET6;
}

static __always_inline void tell_close(struct sock *sk, struct connection *connection)
{
	struct tcp_sock *tcp = (void *)sk;
	struct act_record act = {};

	if (!is_wanted(COUNT_NETWORK_CLOSE))
		return;
	begin_on_stack(&act, ACT_CLOSE, connection->start_ns, connection->pid);
	put_addresses(&act, sk);
	act.result = connection->accepted;
	act.numbers[6] = connection->opened_ns;
	act.numbers[7] = LOOK(tcp, bytes_sent) - LOOK(tcp, bytes_retrans);
	/* The other side's end counts as a byte. */
	act.numbers[8] = LOOK(tcp, bytes_received) - ((LOOK(sk, __sk_common.skc_flags) >> SOCK_DONE) & 1);
	send(&act, sizeof(act), COUNT_NETWORK_CLOSE, false);
}

/* Keeps a connection until its end, which the states of TCP alone tell. Returns its id. */
static __always_inline u64 remember(struct sock *sk, struct act_record *act, bool accepted)
{
	struct connection connection = {
		.start_ns = act->head.start_ns,
		.opened_ns = act->head.at_ns,
		.pid = act->head.pid,
		.established = accepted || LOOK(sk, __sk_common.skc_state) == TCP_ESTABLISHED,
		.accepted = accepted,
	};
	u64 key = (u64)sk;
	struct connection *known;

	known = bpf_map_lookup_elem(&connections, &key);
	if (known && known->pid)
		connection.opened_ns = known->opened_ns;
	if (known && known->established)
		connection.established = 1;
	/* Its end will find nothing to tell. */
	if (bpf_map_update_elem(&connections, &key, &connection, BPF_ANY))
		count_lost(COUNT_NETWORK_CLOSE, 1);
	return connection.opened_ns;
}

/* Sends the record of a connection that has begun. One that ended before its call did was
 * nobody's at its end, so that is told here. */
static __noinline int tell_begun(struct record_space *s, struct sock *sk, u32 count_as)
{
	bool accepted = count_as == COUNT_NETWORK_ACCEPT, is_over = false;
	struct connection ended = {};

	if (!s)
		return 0;
	s->act.numbers[6] = s->act.head.at_ns;
	if (LOOK(sk, sk_protocol) == IPPROTO_TCP) {
		is_over = LOOK(sk, __sk_common.skc_state) == TCP_CLOSE;
		if (!is_over)
			s->act.numbers[6] = remember(sk, &s->act, accepted);
	}
	end_act(s, count_as, false);
	/* One that is still asked for (EINPROGRESS) has not begun. */
	if (!is_over || s->act.result)
		return 0;
	ended.start_ns = s->act.head.start_ns;
	ended.opened_ns = s->act.head.at_ns;
	ended.pid = s->act.head.pid;
	ended.accepted = accepted;
	tell_close(sk, &ended);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_connect")
int enter_connect(struct enter_args *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct destination given = {};
	const void *address = (const void *)ctx->args[1];

	if (bpf_probe_read_user(&given.family, sizeof(given.family), address) || !is_internet(given.family))
		return 0;
	given.fd = (s32)ctx->args[0];
	bpf_probe_read_user(&given.port, sizeof(given.port), address + 2);
	if (given.family == AF_INET6)
		bpf_probe_read_user(given.address, 16, address + 8);
	else
		bpf_probe_read_user(given.address, 4, address + 4);
	bpf_map_update_elem(&connecting, &thread, &given, BPF_ANY);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_connect")
int exit_connect(struct exit_args *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct destination *given = bpf_map_lookup_elem(&connecting, &thread);
	struct record_space *s;
	struct sock *sk;
	bool is_open = ctx->result == 0 || ctx->result == -EINPROGRESS;

	if (!given)
		return 0;
	sk = socket_of(given->fd);
	/* Datagrams are told with the first that is sent: connecting sends none. */
	s = sk && LOOK(sk, sk_protocol) != IPPROTO_UDP ? begin_act(ACT_CONNECT, COUNT_NETWORK_CONNECT) : 0;
	if (!s) {
		bpf_map_delete_elem(&connecting, &thread);
		return 0;
	}
	put_addresses(&s->act, sk);
	/* A socket that failed has forgotten whom it asked for. */
	s->act.numbers[1] = (s->act.numbers[1] & 0xffffffff) | (u64)bpf_ntohs(given->port) << 32;
	if ((u16)s->act.numbers[0] == given->family) {
		s->act.numbers[4] = given->address[0];
		s->act.numbers[5] = given->address[1];
	}
	s->act.result = (s32)ctx->result;
	bpf_map_delete_elem(&connecting, &thread);
	if (is_open)
		return tell_begun(s, sk, COUNT_NETWORK_CONNECT);
	end_act(s, COUNT_NETWORK_CONNECT, false);
	return 0;
}

static __always_inline int accepted(struct exit_args *ctx)
{
	struct record_space *s;
	struct sock *sk;

	if (ctx->result < 0)
		return 0;
	sk = socket_of(ctx->result);
	if (!sk || !is_internet(LOOK(sk, __sk_common.skc_family)))
		return 0;
	s = begin_act(ACT_ACCEPT, COUNT_NETWORK_ACCEPT);
	if (!s)
		return 0;
	put_addresses(&s->act, sk);
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

/* A connection asks for its other end, still in the call of whoever wants it. */
static __noinline int asks(struct sock *sk)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct task_struct *leader = task->group_leader;
	u64 thread = bpf_get_current_pid_tgid(), key = (u64)sk;
	struct destination *given = bpf_map_lookup_elem(&connecting, &thread);
	struct connection connection = {};
	struct act_record act = {};

	if (given && !given->asked) {
		put_addresses(&act, sk);
		given->asked = 1;
		given->family = act.numbers[0];
		given->port = bpf_htons(act.numbers[1] >> 32);
		given->address[0] = act.numbers[4];
		given->address[1] = act.numbers[5];
		return 0;
	}
	if (is_agent(leader) || !is_wanted(COUNT_NETWORK_CONNECT))
		return 0;
	/* The kernel's own threads are nobody. */
	if (task->flags & PF_KTHREAD)
		begin_on_stack(&act, ACT_CONNECT, 0, 0);
	else
		begin_on_stack(&act, ACT_CONNECT, leader->start_boottime, leader->tgid);
	put_addresses(&act, sk);
	act.result = -EINPROGRESS;
	connection.start_ns = act.head.start_ns;
	connection.opened_ns = act.head.at_ns;
	connection.pid = act.head.pid;
	act.numbers[6] = connection.opened_ns;
	if (bpf_map_update_elem(&connections, &key, &connection, BPF_ANY))
		count_lost(COUNT_NETWORK_CLOSE, 1);
	send(&act, sizeof(act), COUNT_NETWORK_CONNECT, false);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int on_tcp_state(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	int now = (int)ctx[2];
	u64 key = (u64)sk;
	struct connection *connection;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (now == TCP_LISTEN) {
		tell_listen(sk);
		return 0;
	}
	if (now == TCP_SYN_SENT)
		return asks(sk);
	if (now != TCP_ESTABLISHED && now != TCP_CLOSE)
		return 0;
	connection = bpf_map_lookup_elem(&connections, &key);
	if (now == TCP_ESTABLISHED) {
		/* Before the call of whoever connects ends, nothing is known of it but this. */
		struct connection begun = { .opened_ns = bpf_ktime_get_boot_ns(), .established = 1 };

		if (connection)
			connection->established = 1;
		else
			bpf_map_update_elem(&connections, &key, &begun, BPF_NOEXIST);
		return 0;
	}
	if (!connection)
		return 0;
	if (connection->established && connection->pid)
		tell_close(sk, connection);
	bpf_map_delete_elem(&connections, &key);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
