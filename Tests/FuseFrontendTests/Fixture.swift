internal import CMountTest
internal import FuseFrontend
internal import FuseTestSupport
internal import Glibc
internal import Primitives
internal import Testing

/// Whether this machine lets us mount; tests say so when it does not.
let canMount: Bool = {
    let device = ct_open("/dev/fuse", O_RDWR, 0)
    if device < 0 {
        print("the tests of the mount cannot run: /dev/fuse: \(Failed(code: -device))")
        return false
    }
    close(device)
    return true
}()

let needsFuse = ConditionTrait.enabled(if: canMount, "/dev/fuse cannot be opened here")

/// An empty directory of the test's own.
func makeDirectory() throws -> String {
    let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array("\(parent)/fuse-test-XXXXXX".utf8CString)
    guard let made = mkdtemp(&template) else { throw Failed(code: errno) }
    return String(cString: made)
}

func testOptions(_ change: (inout MountOptions) -> Void = { _ in }) -> MountOptions {
    var options = MountOptions(
        sourceName: "/volumes/test", owner: getuid(), group: getgid(), coreCount: 2, now: { 7_000_000_000 })
    change(&options)
    return options
}

/// A volume in memory, mounted and served until the end of the test.
final class Fixture: @unchecked Sendable {
    let image: RamImage
    let volume: RamVolume
    let directory: String
    let mount: FuseMount
    private let hasEnded = Guarded(false)

    var path: String { directory + "/volume" }

    init(
        size: UInt64 = 1 << 20, capacity: UInt64? = nil, gate: @escaping @Sendable () -> Void = {},
        options: MountOptions = testOptions()
    ) throws {
        image = RamImage(size: size, capacity: capacity, gate: gate)
        volume = RamVolume(live: image)
        directory = try makeDirectory()
        mount = try FuseMount(volume: volume, at: directory, options: options)
        serve(mount, hasEnded)
    }

    /// Waits until `run` has returned.
    func awaitEnd() { let _: Bool = hasEnded.wait { $0 ? true : nil } }
    var isServing: Bool { hasEnded.withLock { !$0 } }

    /// Unmounts, unless that has been done, and waits for the end.
    func end() {
        mount.stop()
        awaitEnd()
        rmdir(directory)
    }

    func open(_ flags: Int32 = O_RDWR) throws -> Descriptor { try Descriptor(path, flags) }
}

/// Serves `mount` on a thread of its own.
private func serve(_ mount: FuseMount, _ hasEnded: Guarded<Bool>) {
    inThread {
        mount.run()
        hasEnded.withLock { $0 = true }
        hasEnded.wakeAll()
    }
}

/// Calls `body` with a mounted volume, and unmounts it afterwards.
func withMount<Result>(
    size: UInt64 = 1 << 20, capacity: UInt64? = nil, cache: CacheMode = .writethrough,
    _ body: (Fixture) throws -> Result
) throws -> Result {
    let fixture = try Fixture(size: size, capacity: capacity, options: testOptions { $0.cache = cache })
    defer { fixture.end() }
    return try body(fixture)
}

/// A thread that can be waited for.
struct Joinable: Sendable {
    fileprivate let isDone = Guarded(false)
    func wait() { let _: Bool = isDone.wait { $0 ? true : nil } }
}

/// Runs `body` on a new thread: what blocks must not take one of the few that Swift's tasks share.
@discardableResult
func inThread(_ body: @escaping @Sendable () -> Void) -> Joinable {
    final class Box {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    let joinable = Joinable()
    let box = Box {
        body()
        joinable.isDone.withLock { $0 = true }
        joinable.isDone.wakeAll()
    }
    var thread = pthread_t()
    pthread_create(
        &thread, nil,
        { argument in
            if let argument { Unmanaged<Box>.fromOpaque(argument).takeRetainedValue().body() }
            return nil
        }, Unmanaged.passRetained(box).toOpaque())
    pthread_detach(thread)
    return joinable
}

/// A repeatable sequence of random numbers (splitmix64).
struct Generator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
    mutating func below(_ limit: Int) -> Int { Int.random(in: 0..<limit, using: &self) }
    mutating func bytes(_ count: Int) -> [UInt8] {
        let words = (0..<(count + 7) / 8).map { _ in next() }
        return words.withUnsafeBytes { Array($0[..<count]) }
    }
}

func pattern(_ count: Int, _ seed: UInt8) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) ^ seed } }
