package image

// needlessUnits are systemd's and Debian's units that have nothing to do in a
// VM of ours, and cost time at every boot or write to the disk behind the
// user's back.
func needlessUnits() []string {
	return []string{
		// The agent configures the network; waiting for networkd would last
		// for ever.
		"systemd-networkd-wait-online.service",
		// Asks questions on the console if the image has no locale or time zone.
		"systemd-firstboot.service",
		// Nobody can log in on a terminal: there are no passwords.
		"getty@tty1.service", "serial-getty@ttyS0.service", "console-getty.service", "getty-static.service",
		// The host keeps the image current; nothing may hold apt's lock.
		"apt-daily.timer", "apt-daily-upgrade.timer", "apt-daily.service", "apt-daily-upgrade.service",
		"dpkg-db-backup.timer",
		// For LVM.
		"e2scrub_all.timer", "e2scrub_reap.service",
		// The image is never repartitioned, the root is an overlay.
		"systemd-repart.service", "systemd-remount-fs.service",
		// The agent seeds the kernel's random numbers.
		"systemd-random-seed.service",
		// Nobody reads who was logged in and when.
		"systemd-update-utmp.service", "systemd-update-utmp-runlevel.service",
		// Mounts that developers don't miss, and a driver for screens.
		"sys-kernel-config.mount", "modprobe@configfs.service", "dev-hugepages.mount", "modprobe@drm.service",
		// Firmware that VMs don't have.
		"systemd-pstore.service", "systemd-pcrphase.service", "systemd-pcrphase-sysinit.service",
	}
}

// commonFiles are what makes a bare Debian pleasant for its only user.
func commonFiles() []file {
	return []file{
		// Empty: systemd takes the id that the agent gives it. A missing file
		// would be made at first boot, and "uninitialized" would count every
		// boot as the first.
		{"etc/machine-id", 0o444, ""},
		// Newer than /usr: it keeps systemd from bringing /etc and /var up to
		// date at the first boot (ConditionNeedsUpdate in systemd.unit(5)).
		{"etc/.updated", 0o644, ""},
		{"var/.updated", 0o644, ""},
		// The chipset that QEMU emulates has an AHCI controller without disks.
		{"etc/modprobe.d/banger.conf", 0o644, "blacklist ahci\n"},
		{"etc/default/locale", 0o644, "LANG=C.UTF-8\n"},
		{"etc/fstab", 0o644, "# The agent mounts all file systems.\n"},
		{"etc/hosts", 0o644, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
		// Logs of a VM go with its disk; a file that grows for ever would not.
		{"etc/systemd/journald.conf.d/50-banger.conf", 0o644, "[Journal]\nSystemMaxUse=64M\n"},
		{"root/.bashrc", 0o644, bashrc},
		{"root/.profile", 0o644, profile},
	}
}

const profile = `# Read by login shells.
if [ -n "$BASH_VERSION" ] && [ -f ~/.bashrc ]; then
	. ~/.bashrc
fi
`

const bashrc = `# Read by interactive shells.
case $- in
*i*) ;;
*) return ;;
esac

export LANG="${LANG:-C.UTF-8}"
export LESS="${LESS:--R}"
HISTCONTROL=ignoreboth
HISTSIZE=10000
shopt -s checkwinsize histappend

case $TERM in
*color* | xterm* | tmux* | screen* | linux)
	PS1='\[\e[1;32m\]\u@\h\[\e[0m\]:\[\e[1;34m\]\w\[\e[0m\]\$ '
	eval "$(dircolors -b)"
	alias ls='ls --color=auto'
	alias grep='grep --color=auto'
	;;
*)
	PS1='\u@\h:\w\$ '
	;;
esac
alias ll='ls -l'
alias la='ls -A'
command -v vim >/dev/null || alias vim=vi
`
