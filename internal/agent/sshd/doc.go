// Package sshd is the SSH server inside the guest agent: commands, login
// shells with and without a terminal, sftp, and the forwarding of TCP ports,
// Unix sockets and the SSH agent. It needs nothing of the image: where there is
// no shell, it starts plain commands itself (see parsePlain).
//
// It behaves as OpenSSH's sshd does, with these choices of its own:
//
//   - Whoever has one of the keys may log in as any user of /etc/passwd, and
//     so as root. Users are therefore no boundary here: forwarding is done
//     with the rights of the agent.
//   - A login name may be anything that docker's --user may, such as 1000:100.
//   - A user whose login shell only refuses logins gets a common one.
//   - Environment variables of any name are accepted, and override all others.
//   - A command that has ended is reported after all that it wrote. Where
//     processes that it left behind keep its output open, the report comes at
//     most drainGrace later (sshd would wait for them for ever). What they
//     write from then on is dropped, but does not kill them.
//   - A command still running when its channel or its connection ends gets
//     SIGHUP and SIGCONT, with a terminal or without (sshd: only with one). Without
//     one it may go on to write: that is dropped, but does not kill it. Its input
//     doesn't end before that, as if the client had sent all of it.
//   - When the client ends the input of a terminal, the terminal's end-of-file
//     character is typed into it, so that `ssh -tt vm <script` ends.
//
// A client's order of ciphers decides over the server's, so the server offers
// only those that are quick on its CPU; see ciphers.
package sshd
