internal import CMountTest
internal import FuseFrontend
internal import FuseTestSupport
internal import Glibc
internal import Testing

@Suite("What a mount shows", .serialized, needsFuse)
struct TreeTests {
    @Test func `the mount shows the volume, the snapshots and the state, with their sizes and modes`() throws {
        try withMount { (fixture) throws in
            #expect(try names(in: fixture.directory) == ["volume", "snapshots", ".replica"])
            #expect(try names(in: fixture.directory + "/.replica") == ["status", "stats"])
            let volume = try status(fixture.path)
            #expect(volume.st_mode == S_IFREG | 0o600)
            #expect(volume.st_size == 1 << 20)
            #expect(volume.st_blocks == 0)
            #expect(try status(fixture.directory).st_mode == S_IFDIR | 0o555)
        }
    }

    @Test func `st_blocks follows writes and holes at once`() throws {
        try withMount { (fixture) throws in
            let file = try fixture.open()
            try file.write(pattern(8192, 1), at: 4096)
            #expect(try file.status().st_blocks == 16)
            try file.allocate(ct_punch | ct_keep_size, 4096, 4096)
            #expect(try file.status().st_blocks == 8)
            #expect(try status(fixture.path).st_blocks == 8)
        }
    }

    @Test func `statfs gives the volume's space in blocks of 4096`() throws {
        try withMount { (fixture) throws in
            var info = statvfs()
            try check(statvfs(fixture.directory, &info))
            #expect(info.f_bsize == 4096)
            #expect(info.f_blocks == (9 << 30) / 4096)
            #expect(info.f_bavail == (5 << 30) / 4096)
        }
    }

    @Test func `the state is made at each open and read to its end though its size is 0`() throws {
        try withMount { (fixture) throws in
            let path = fixture.directory + "/.replica/status"
            #expect(try contents(of: path) == Array("{\"document\":\"status\",\"change\":0}\n".utf8))
            let before = try Descriptor(path, O_RDONLY)
            fixture.volume.addSnapshot("a", RamImage(size: 4096))
            #expect(try contents(of: path) == Array("{\"document\":\"status\",\"change\":1}\n".utf8))
            #expect(try before.read(100, at: 0) == Array("{\"document\":\"status\",\"change\":0}\n".utf8))
            #expect(
                try contents(of: fixture.directory + "/.replica/stats").starts(with: "{\"document\":\"stats\"".utf8))
            #expect(failure { _ = try Descriptor(path, O_RDWR) } == EACCES)
        }
    }

    @Test func `nothing can be created, removed or renamed`() throws {
        try withMount { (fixture) throws in
            fixture.volume.addSnapshot("s", RamImage(size: 4096))
            let directory = fixture.directory
            #expect(failure { _ = try Descriptor(directory + "/new", O_CREAT | O_RDWR) } == EPERM)
            #expect(failure { try check(mkdir(directory + "/d", 0o700)) } == EPERM)
            #expect(failure { try check(unlink(fixture.path)) } == EPERM)
            #expect(failure { try check(unlink(directory + "/snapshots/s")) } == EPERM)
            #expect(failure { try check(rmdir(directory + "/snapshots")) } == EPERM)
            #expect(failure { try check(rename(fixture.path, directory + "/other")) } == EPERM)
            #expect(failure { try check(symlink("volume", directory + "/link")) } == EPERM)
            #expect(failure { try check(link(fixture.path, directory + "/link")) } == EPERM)
            #expect(failure { try check(mknod(directory + "/fifo", S_IFIFO | 0o600, 0)) } == EPERM)
            #expect(try names(in: directory) == ["volume", "snapshots", ".replica"])
        }
    }

    @Test func `modes and owners stay as they are, times can be set`() throws {
        try withMount { (fixture) throws in
            #expect(failure { try check(chmod(fixture.path, 0o644)) } == EPERM)
            #expect(failure { try check(chmod(fixture.path, 0o600)) } == nil)
            #expect(failure { try check(chown(fixture.path, 4242, getgid())) } == EPERM)
            #expect(failure { try check(chown(fixture.path, getuid(), getgid())) } == nil)
            var times = [timespec(tv_sec: 11, tv_nsec: 5), timespec(tv_sec: 12, tv_nsec: 6)]
            try check(utimensat(AT_FDCWD, fixture.path, &times, 0))
            let info = try status(fixture.path)
            #expect(info.st_mtim.tv_sec == 12)
            #expect(info.st_mtim.tv_nsec == 6)
        }
    }

    // MARK: Snapshots

    @Test func `a snapshot is a read-only file of its own size and time`() throws {
        try withMount { (fixture) throws in
            let image = RamImage(size: 3 << 20)
            try image.write(bytes: pattern(5000, 3), at: 1 << 20)
            fixture.volume.addSnapshot("daily-1", image, createdNs: 1_500_000_000_250_000_000)
            let path = fixture.directory + "/snapshots/daily-1"
            let info = try status(path)
            #expect(info.st_mode == S_IFREG | 0o400)
            #expect(info.st_size == 3 << 20)
            #expect(info.st_blocks == 16)
            #expect(info.st_mtim.tv_sec == 1_500_000_000)
            #expect(info.st_mtim.tv_nsec == 250_000_000)
            let file = try Descriptor(path, O_RDONLY)
            #expect(try file.read(5000, at: 1 << 20) == pattern(5000, 3))
            #expect(try file.seek(ct_seek_data, 0) == 1 << 20)
            #expect(try file.seek(ct_seek_hole, 1 << 20) == (1 << 20) + 8192)
            for flags in [O_WRONLY, O_RDWR, O_RDWR | O_TRUNC] {
                #expect(failure { _ = try Descriptor(path, flags) } == EROFS)
            }
            #expect(failure { try check(truncate(path, 0)) } == EPERM)
            #expect(failure { try check(chmod(path, 0o600)) } == EPERM)
        }
    }

    @Test func `snapshots appear, go and change names while mounted, without stale entries`() throws {
        try withMount { (fixture) throws in
            let directory = fixture.directory + "/snapshots"
            #expect(try names(in: directory) == [])
            #expect(failure { _ = try status(directory + "/a") } == ENOENT)
            fixture.volume.addSnapshot("a", RamImage(size: 4096))
            #expect(try status(directory + "/a").st_size == 4096)
            fixture.volume.addSnapshot("b", RamImage(size: 8192))
            #expect(try names(in: directory) == ["a", "b"])
            fixture.volume.renameSnapshot("a", to: "c")
            #expect(try names(in: directory) == ["c", "b"])
            #expect(failure { _ = try status(directory + "/a") } == ENOENT)
            #expect(try status(directory + "/c").st_size == 4096)
            fixture.volume.removeSnapshot("c")
            #expect(failure { _ = try Descriptor(directory + "/c", O_RDONLY) } == ENOENT)
            #expect(try names(in: directory) == ["b"])
        }
    }

    @Test(arguments: CacheMode.allCases)
    func `a deleted snapshot stays readable while it is open, and its name is free for another`(cache: CacheMode) throws
    {
        try withMount(cache: cache) { (fixture) throws in
            let first = RamImage(size: 1 << 20)
            try first.write(bytes: pattern(1 << 20, 9), at: 0)
            fixture.volume.addSnapshot("s", first)
            let path = fixture.directory + "/snapshots/s"
            let old = try Descriptor(path, O_RDONLY)
            #expect(try old.read(100, at: 0) == Array(pattern(1 << 20, 9)[..<100]))
            fixture.volume.removeSnapshot("s")
            let second = RamImage(size: 8192)
            try second.write(bytes: pattern(8192, 77), at: 0)
            fixture.volume.addSnapshot("s", second)
            #expect(try contents(of: path) == pattern(8192, 77))
            #expect(try old.read(1 << 20, at: 0) == pattern(1 << 20, 9))
            #expect(try old.status().st_size == 1 << 20)
            // This opens the old file without looking its name up, which is another's by now.
            #expect(failure { _ = try Descriptor("/proc/self/fd/\(old.number)", O_RDONLY) } == ENOENT)
        }
    }

    @Test func `hundreds of snapshots are listed whole and each is found`() throws {
        try withMount { (fixture) throws in
            let expected = (0..<700).map { "snapshot-with-a-rather-long-name-so-that-pages-fill-\($0)" }
            for name in expected { fixture.volume.addSnapshot(name, RamImage(size: 4096)) }
            #expect(try names(in: fixture.directory + "/snapshots") == expected)
            for name in expected { #expect(try status(fixture.directory + "/snapshots/" + name).st_size == 4096) }
        }
    }

    @Test func `a read-only mount refuses every change with EROFS`() throws {
        let fixture = try Fixture(options: testOptions { $0.isReadOnly = true })
        defer { fixture.end() }
        try fixture.image.write(bytes: pattern(4096, 5), at: 0)
        #expect(try status(fixture.path).st_mode == S_IFREG | 0o400)
        #expect(failure { _ = try fixture.open(O_RDWR) } == EROFS)
        #expect(failure { _ = try fixture.open(O_WRONLY | O_TRUNC) } == EROFS)
        #expect(failure { try check(truncate(fixture.path, 0)) } == EROFS)
        #expect(failure { try check(mkdir(fixture.directory + "/d", 0o700)) } == EROFS)
        let file = try fixture.open(O_RDONLY)
        #expect(try file.read(4096, at: 0) == pattern(4096, 5))
        #expect(failure { try file.sync() } == nil)
    }
}

extension RamImage {
    /// A write that comes from elsewhere than the mount.
    func write(bytes: [UInt8], at offset: UInt64) throws(MountError) {
        let failure = bytes.withUnsafeBytes { bytes -> MountError? in
            do throws(MountError) {
                try write(bytes, at: offset, durable: false)
                return nil
            } catch {
                return error
            }
        }
        if let failure { throw failure }
    }
}
