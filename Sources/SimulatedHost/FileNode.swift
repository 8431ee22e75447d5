internal import Primitives

/// What an operation left in one page: the page's bytes after it, and the sectors of them that it wrote.
///
/// Because the image is that of the page cache, a surviving sector carries every earlier change of the same sector,
/// which is how a disk that wrote the sector at some moment would hold it.
struct Piece: Sendable {
    var page: UInt64
    /// Bit n: the sector n of the page.
    var sectors: UInt8
    /// `absent` for a punched page.
    var image: Page
}

/// A change of a file that no sync has made durable yet.
struct FileChange: Sendable {
    enum Kind: Sendable {
        /// `size` is the new size where the write made the file longer.
        case write([Piece], size: UInt64?)
        case punch([Piece])
        case truncate(UInt64)
        case reserve(first: UInt64, count: UInt64)
    }
    /// Its place among all changes of the machine.
    var sequence: UInt64
    var kind: Kind
}

/// A regular file: what is durable, what every reader sees, and the changes between the two in order.
///
/// Invariants
/// 1. Without faults, `pending` applied to `durable` gives `current`.
/// 2. `stale` is nil unless a fault made the device hold other bytes than memory.
struct FileNode: Sendable {
    /// What ordinary reads return: memory.
    var current = Content()
    /// What reads past memory return, and what a sync makes durable, if that is not `current`.
    var stale: Content?
    var durable = Content()
    var pending: [FileChange] = []

    /// Writes as much as `room` new pages allow.
    /// - Returns: the bytes written.
    mutating func write(
        _ bytes: UnsafeRawBufferPointer, at offset: UInt64, sequence: UInt64, room: inout Int
    ) -> Int {
        var done = 0
        var pieces: [Piece] = []
        while done < bytes.count {
            let position = offset + UInt64(done)
            let index = position / pageSize64
            let inside = Int(position % pageSize64)
            let part = min(pageSize - inside, bytes.count - done)
            if !current.page(index).isAllocated {
                if room == 0 { break }
                room -= 1
            }
            current.patch(index, at: inside, UnsafeRawBufferPointer(rebasing: bytes[done..<(done + part)]))
            pieces.append(Piece(page: index, sectors: mask(inside, part), image: current.page(index)))
            done += part
        }
        let end = offset + UInt64(done)
        let grows = done > 0 && end > current.size
        if grows { current.size = end }
        if stale != nil {
            for piece in pieces { stale?.set(piece.page, piece.image) }
            stale?.size = current.size
        }
        if done > 0 {
            pending.append(FileChange(sequence: sequence, kind: .write(pieces, size: grows ? end : nil)))
        }
        return done
    }

    /// A write that memory has and the device never gets, or gets at `other`.
    mutating func miswrite(
        _ bytes: UnsafeRawBufferPointer, at offset: UInt64, instead other: UInt64?, sequence: UInt64, room: inout Int
    ) {
        var device = stale ?? current
        let sizeBefore = current.size
        stale = nil
        _ = write(bytes, at: offset, sequence: sequence, room: &room)
        if !pending.isEmpty { pending.removeLast() }
        device.size = current.size
        var pieces: [Piece] = []
        if let other {
            var aside = FileNode(current: device)
            var unlimited = Int.max
            let count = min(UInt64(bytes.count), device.size > other ? device.size - other : 0)
            _ = aside.write(
                UnsafeRawBufferPointer(rebasing: bytes[0..<Int(count)]), at: other, sequence: sequence,
                room: &unlimited)
            if case .write(let made, _)? = aside.pending.last?.kind { pieces = made }
            device = aside.current
        }
        stale = device
        let size = current.size > sizeBefore ? current.size : nil
        pending.append(FileChange(sequence: sequence, kind: .write(pieces, size: size)))
    }

    /// FALLOC_FL_PUNCH_HOLE with FALLOC_FL_KEEP_SIZE. Pages reserved behind the end stay, as on ext4.
    mutating func punch(offset: UInt64, count: UInt64, sequence: UInt64) {
        guard offset < current.size else { return }
        var end = offset + count
        if end > current.size { end = roundedUp(current.size, to: pageSize64) }
        let firstWhole = roundedUp(offset, to: pageSize64) / pageSize64
        let endWhole = end / pageSize64
        var pieces: [Piece] = []
        func zeroPart(_ from: UInt64, _ to: UInt64) {
            guard from < to, case .data = current.page(from / pageSize64) else { return }
            let inside = Int(from % pageSize64)
            let part = Int(to - from)
            current.zero(from / pageSize64, at: inside, count: part)
            let index = from / pageSize64
            pieces.append(Piece(page: index, sectors: mask(inside, part), image: current.page(index)))
        }
        if firstWhole > endWhole {
            zeroPart(offset, end)
        } else {
            zeroPart(offset, firstWhole * pageSize64)
            for index in current.allocated(from: firstWhole) where index < endWhole {
                current.set(index, .absent)
                pieces.append(Piece(page: index, sectors: 0xFF, image: .absent))
            }
            zeroPart(endWhole * pageSize64, end)
        }
        if stale != nil { for piece in pieces { stale?.set(piece.page, piece.image) } }
        pending.append(FileChange(sequence: sequence, kind: .punch(pieces)))
    }

    mutating func truncate(to size: UInt64, sequence: UInt64) {
        if size == current.size { return }
        current.truncate(to: size)
        stale?.truncate(to: size)
        pending.append(FileChange(sequence: sequence, kind: .truncate(size)))
    }

    /// Reserves pages, as many as `room` allows, and says whether that was all.
    mutating func reserve(offset: UInt64, count: UInt64, sequence: UInt64, room: inout Int) -> Bool {
        let first = offset / pageSize64
        let end = roundedUp(offset + count, to: pageSize64) / pageSize64
        let missing = (first..<end).filter { !current.page($0).isAllocated }
        if missing.count > room { return false }
        room -= missing.count
        for index in missing {
            current.set(index, .reserved)
            stale?.set(index, .reserved)
        }
        pending.append(FileChange(sequence: sequence, kind: .reserve(first: first, count: end - first)))
        return true
    }

    mutating func makeDurable() {
        durable = stale ?? current
        pending = []
    }

    /// A sync that failed: what `survival` keeps reached the device, the rest never will, and memory shows it all.
    mutating func failSync(_ survival: inout Survival, file: Int) {
        var device = durable
        apply(pending, to: &device, &survival, file: file)
        device.truncate(to: current.size)
        durable = device
        stale = device
        pending = []
    }

    /// The content after a power cut.
    func survivor(_ survival: inout Survival, file: Int) -> Content {
        if pending.isEmpty { return durable }
        var content = durable
        apply(pending, to: &content, &survival, file: file)
        return content
    }
}

/// The sectors that `count` bytes from `offset` of a page touch.
private func mask(_ offset: Int, _ count: Int) -> UInt8 {
    var bits: UInt8 = 0
    for sector in (offset / sectorSize)...((offset + count - 1) / sectorSize) { bits |= 1 << UInt8(sector) }
    return bits
}

/// Applies what survives of `changes` to `content`.
///
/// Sectors survive one by one. Changes of the size survive in order, because file systems commit their metadata in
/// order; a truncate that is lost takes every later change of the file with it, since those went to space that
/// only exists behind it.
private func apply(_ changes: [FileChange], to content: inout Content, _ survival: inout Survival, file: Int) {
    var metadataEnded = false
    for change in changes {
        survival.begin(change.sequence, file: file)
        switch change.kind {
        case .write(let pieces, let size):
            for piece in pieces { survive(piece, in: &content, &survival) }
            if let size {
                if !survival.keepsUnit() { metadataEnded = true }
                if !metadataEnded { content.size = max(content.size, size) }
            }
        case .punch(let pieces):
            for piece in pieces { survive(piece, in: &content, &survival) }
        case .truncate(let size):
            if !survival.keepsUnit() || metadataEnded {
                content.clearBehindEnd()
                return
            }
            // Sectors of earlier writes behind a size that did not survive must not come back with a larger one.
            content.clearBehindEnd()
            content.truncate(to: size)
        case .reserve(let first, let count):
            if survival.keepsUnit() {
                for index in first..<(first + count) where !content.page(index).isAllocated {
                    content.set(index, .reserved)
                }
            }
        }
    }
    content.clearBehindEnd()
}

private func survive(_ piece: Piece, in content: inout Content, _ survival: inout Survival) {
    guard case .data(let image) = piece.image else {
        if survival.keepsUnit() { content.set(piece.page, .absent) }
        return
    }
    var kept: UInt8 = 0
    for sector in 0..<sectorsInPage where piece.sectors & (1 << UInt8(sector)) != 0 {
        if survival.keepsUnit() { kept |= 1 << UInt8(sector) }
    }
    if kept == 0xFF {
        content.set(piece.page, piece.image)
        return
    }
    for sector in 0..<sectorsInPage where kept & (1 << UInt8(sector)) != 0 {
        image.withUnsafeBytes {
            let from = sector * sectorSize
            content.patch(
                piece.page, at: from, UnsafeRawBufferPointer(rebasing: $0[from..<(from + sectorSize)]))
        }
    }
}
