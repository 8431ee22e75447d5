import ArgumentParser
import FuseFrontend
import Glibc
import HostIO
import Logging
import Primitives
import Replication
import Storage

struct Mount: ToolCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show a volume as a file: MOUNTPOINT/volume.",
        discussion: """
            Returns when the volume can be used; a daemon serves it until 'replica-tool umount'. Beside the volume stand \
            its snapshots, read-only, in MOUNTPOINT/snapshots, and its state in MOUNTPOINT/.replica. A snapshot given \
            as TARGET@SNAP is mounted read-only. The daemon's log is VOLUME/log, or beside a bare replica REPLICA.log.

            Cache modes: writethrough keeps pages for reads, and every write reaches the store before it returns; none \
            passes the page cache by; writeback lets the kernel gather small writes, and fsync is still real.
            """)

    @Argument(help: "A volume, a replica, or one of its snapshots.") var target: String
    @Argument(help: "The directory where it appears.") var mountpoint: String
    @Flag(help: "Let nobody write.") var readOnly = false
    @Flag(help: "Serve in this process, and log to standard error.") var foreground = false
    @Option(help: ArgumentHelp("How the kernel's page cache takes part.", valueName: "writethrough|none|writeback"))
    var cache: String = "writethrough"
    @Flag(help: "Let other users in, by the permission bits.") var allowOther = false
    @Option(help: ArgumentHelp("Threads that serve requests.", valueName: "n")) var threads: Int?
    @Option(help: ArgumentHelp("Write the daemon's process number here.", valueName: "file")) var pidfile: String?
    @Option(help: ArgumentHelp("The daemon's log file.", valueName: "file")) var log: String?
    @Option(name: .customShort("o"), help: ArgumentHelp("Mount options as mount(8) has them.", valueName: "opts"))
    var mountOptions: [String] = []
    /// How the tool starts itself as the daemon.
    @Flag(name: .customLong("daemon-child"), help: .hidden) var isDaemon = false
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        if isDaemon { return runDaemon(context) }
        let (target, options) = try check(context)
        let address = try Address(self.target)
        if context.isDryRun("mount \(target.path)\(address.snapshot.map { "@" + $0 } ?? "") at \(options.mountpoint)") {
            return .done
        }
        if foreground {
            try serve(target, options, logger(STDERR_FILENO, context), context) { recovery in
                context.remark(
                    "\(target.path) is mounted at \(options.mountpoint)\(found(recovery.json, target))")
            }
            return .done
        }
        let report = try DaemonLauncher.start(daemonArguments(options, context))
        let process = report["pid"]?.int ?? 0
        let recovery = report["recovery"] ?? [:]
        for remark in recovery["remarks"]?.items ?? [] { context.remark(printable(remark.text ?? "")) }
        context.done(
            "mounted \(target.path) at \(options.mountpoint) (process \(process), log \(logPath(target)))\(found(recovery, target))",
            [
                "path": .string(target.path), "snapshot": JSON(options.snapshot),
                "mountpoint": .string(options.mountpoint),
                "pid": JSON(process), "read_only": .bool(options.isReadOnly), "cache": .string(options.cache.rawValue),
                "log": .string(logPath(target)), "recovery": recovery,
            ])
        return .done
    }

    /// What the opening found, for the end of a line; empty if the volume was closed in order.
    private func found(_ recovery: JSON, _ target: Target) -> String {
        let replayed = "\(recovery["replayed_records"]?.int ?? 0) operations were taken over from the journal"
        switch recovery["outcome"]?.text {
        case "recovered": return "; recovered: \(replayed), nothing was lost"
        case "rolled-back":
            let bytes = SizeText.human(recovery["dropped_bytes"]?.count ?? 0)
            let dropped =
                "\(recovery["dropped_records"]?.int ?? 0) torn ones (\(bytes)) that were never flushed are gone"
            return "; recovered: \(replayed), \(dropped)"
        case "damaged": return "; DAMAGED: \(replayed); 'replica-tool verify \(target.path)' names what is lost"
        default: return ""
        }
    }

    // MARK: What can be wrong

    /// Everything that can be said without the daemon; it says the rest.
    private func check(_ context: Context) throws(ToolError) -> (Target, MountDaemon.Options) {
        let address = try Address(target)
        guard let cache = CacheMode(rawValue: cache) else {
            throw ToolError(.usage, "no cache mode '\(printable(cache))': write writethrough, none or writeback")
        }
        if let threads, !(1...256).contains(threads) {
            throw ToolError(.usage, "--threads \(threads): 1 to 256 are possible")
        }
        let found = try context.target(address.path)
        try found.refuseIfServed("mount")
        let place = try MountPlace.check(mountpoint, below: found)
        try MountPlace.checkDevice()
        var options = MountDaemon.Options(mountpoint: place, snapshot: address.snapshot)
        let words = mountOptions.flatMap { $0.split(separator: ",").map(String.init) }
        options.isReadOnly = readOnly || address.snapshot != nil || words.contains("ro")
        options.cache = cache
        options.allowsOthers = allowOther
        options.threads = threads
        options.userOptions = mountOptions
        options.pidFile = pidfile.map(absolutePath)
        return (found, options)
    }

    private func logPath(_ target: Target) -> String { log.map(absolutePath) ?? target.logPath }

    private func logger(_ descriptor: Int32, _ context: Context) -> Logger {
        let handler = DaemonLog(
            descriptor: descriptor, host: context.host, level: context.settings.isVerbose ? .debug : .info)
        return Logger(label: "replica-tool") { _ in handler }
    }

    // MARK: The daemon

    private func daemonArguments(_ options: MountDaemon.Options, _ context: Context) -> [String] {
        var words = ["replica-tool", "mount", "--daemon-child", "--cache", options.cache.rawValue]
        if options.isReadOnly { words.append("--read-only") }
        if options.allowsOthers { words.append("--allow-other") }
        if let threads = options.threads { words += ["--threads", String(threads)] }
        if let file = options.pidFile { words += ["--pidfile", file] }
        if let log { words += ["--log", absolutePath(log)] }
        for option in options.userOptions { words.append("-o=\(option)") }
        if context.settings.isVerbose { words.append("--verbose") }
        let path = absolutePath((try? Address(target))?.path ?? target)
        return words + ["--", path + (options.snapshot.map { "@" + $0 } ?? ""), options.mountpoint]
    }

    /// Its one report goes to the starter; everything else to the log.
    private func runDaemon(_ context: Context) -> Exit {
        _ = fcntl(DaemonLauncher.statusDescriptor, F_SETFD, FD_CLOEXEC)
        Processes.nameThread("replica-tool")
        do throws(ToolError) {
            let (target, options) = try check(context)
            let descriptor = try DaemonLog.openFile(logPath(target))
            let log = logger(descriptor, context)
            guard chdir("/") == 0 else { throw ToolError(.failed, "cannot change to /: \(errorText(errno))") }
            do throws(ToolError) {
                try serve(target, options, log, context) { recovery in
                    // From here on nobody reads the pipe.
                    dup2(descriptor, STDERR_FILENO)
                    DaemonLauncher.report(["ready": true, "pid": .integer(Int64(getpid())), "recovery": recovery.json])
                }
            } catch {
                log.error("\(error.message)")
                throw error
            }
            return .done
        } catch {
            DaemonLauncher.report(["code": .integer(Int64(error.exit.rawValue)), "message": .string(error.message)])
            return error.exit
        }
    }

    private func serve(
        _ target: Target, _ options: MountDaemon.Options, _ log: Logger, _ context: Context,
        ready: @escaping (RecoveryReport) -> Void
    ) throws(ToolError) {
        Processes.prepareDaemon()
        signal(SIGHUP, SIG_IGN)
        let daemon = MountDaemon(target: target, options: options, host: context.host, log: log)
        Interruption.shared.onStop { number in
            log.info("signal \(number): unmounting \(options.mountpoint)")
            daemon.stop()
        }
        try daemon.run(ready: ready)
    }
}

/// The mount point before anything is mounted.
enum MountPlace {
    /// - Returns: its path without links.
    static func check(_ path: String, below target: Target) throws(ToolError) -> String {
        var info = stat()
        if stat(path, &info) != 0 {
            switch errno {
            case ENOENT:
                throw ToolError(
                    .notFound, "cannot mount at \(printable(path)): it does not exist; create the directory first")
            case ENOTCONN:
                throw ToolError(
                    .inUse,
                    "cannot mount at \(printable(path)): a daemon died here; 'replica-tool umount \(printable(path))' first"
                )
            default: throw ToolError(.failed, "cannot mount at \(printable(path)): \(errorText(errno))")
            }
        }
        guard info.st_mode & S_IFMT == S_IFDIR else {
            throw ToolError(.usage, "cannot mount at \(printable(path)): it is no directory")
        }
        let place = absolutePath(path)
        if let entry = MountEntry.all().last(where: { $0.mountpoint == place }), entry.isOurs {
            throw ToolError(.inUse, "cannot mount at \(place): \(entry.source) is mounted there; unmount it first")
        }
        if contains(place, target.replicaPath) {
            throw ToolError(
                .usage,
                "cannot mount at \(place): the mount would hide the replica \(target.replicaPath); choose another directory"
            )
        }
        if contains(target.replicaPath, place) {
            throw ToolError(.usage, "cannot mount at \(place): it lies inside the replica; choose another directory")
        }
        return place
    }

    private static func contains(_ directory: String, _ path: String) -> Bool {
        path == directory || path.hasPrefix(directory == "/" ? "/" : directory + "/")
    }

    static func checkDevice() throws(ToolError) {
        let descriptor = open("/dev/fuse", O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw ToolError(
                .failed,
                "cannot mount: /dev/fuse: \(errorText(errno)); load the module 'fuse', or give the container the device"
            )
        }
        close(descriptor)
    }
}
