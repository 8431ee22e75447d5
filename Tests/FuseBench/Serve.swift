internal import FuseFrontend
internal import FuseTestSupport
internal import Glibc
internal import Primitives

/// `fuse-bench MOUNTPOINT [backend=empty|ram] [size=MiB] [cache=MODE] [threads=N] [ro=1]`
///
/// Serves an image in memory until it is unmounted or gets SIGTERM, and prints `ready` when it can be used. For
/// measurements with fio, and for tests that need the serving process to die.
func serve(_ arguments: [String]) {
    var settings: [Substring: Substring] = [:]
    for argument in arguments.dropFirst(2) {
        let parts = argument.split(separator: "=", maxSplits: 1)
        if parts.count == 2 { settings[parts[0]] = parts[1] }
    }
    guard arguments.count >= 2 else {
        print("usage: fuse-bench MOUNTPOINT [backend=empty|ram] [size=MiB] [cache=MODE] [threads=N] [ro=1]")
        exit(64)
    }
    let size = (settings["size"].flatMap { UInt64($0) } ?? 1024) << 20
    let image: any MountedImage = settings["backend"] == "ram" ? RamImage(size: size) : EmptyImage(size: size)
    var options = MountOptions(
        sourceName: "fuse-bench", owner: geteuid(), group: getegid(), coreCount: sysconf(Int32(_SC_NPROCESSORS_ONLN)),
        now: wallClock)
    if let cache = settings["cache"].flatMap({ CacheMode(rawValue: String($0)) }) { options.cache = cache }
    if let threads = settings["threads"].flatMap({ Int($0) }) { options.threadCount = threads }
    options.isReadOnly = settings["ro"] == "1"

    // All threads inherit the mask, so the signal waits for the thread that asks for it.
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGTERM)
    sigaddset(&signals, SIGINT)
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    do throws(MountFailure) {
        let mount = try FuseMount(volume: RamVolume(live: image), at: arguments[1], options: options)
        stopAtSignal(mount)
        mount.run {
            print("ready")
            fflush(nil)
        }
    } catch {
        print(error)
        exit(1)
    }
}

private func stopAtSignal(_ mount: FuseMount) {
    var thread = pthread_t()
    pthread_create(
        &thread, nil,
        { argument in
            guard let argument else { return nil }
            let mount = Unmanaged<FuseMount>.fromOpaque(argument).takeRetainedValue()
            var signals = sigset_t()
            sigemptyset(&signals)
            sigaddset(&signals, SIGTERM)
            sigaddset(&signals, SIGINT)
            var number: Int32 = 0
            sigwait(&signals, &number)
            mount.stop()
            return nil
        }, Unmanaged.passRetained(mount).toOpaque())
    pthread_detach(thread)
}

@Sendable
private func wallClock() -> Int64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME_COARSE, &now)
    return Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec)
}
