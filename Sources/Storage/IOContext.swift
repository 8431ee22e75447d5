internal import Format
public import Primitives

/// What one thread needs to serve a request: arrays for the lookup and an operation for the journal. Reused, so that
/// serving allocates nothing.
public final class IOContext: @unchecked Sendable {
    /// For each block of the request: its sum and its place.
    let sums: UnsafeMutablePointer<UInt64>
    let places: UnsafeMutablePointer<Place>
    /// The same of the attempt before, and which blocks did not verify then.
    let earlierSums: UnsafeMutablePointer<UInt64>
    let earlierPlaces: UnsafeMutablePointer<Place>
    let wasBad: UnsafeMutablePointer<Bool>
    let isBad: UnsafeMutablePointer<Bool>
    /// The sources that image places name: the layers of the view, then the tiers.
    var view: ChainView?
    var tierFiles: [LayerFiles] = []

    let operation = WriteOperation()
    /// Two blocks for the edges of an unaligned request.
    public let edges = ByteBuffer(count: 2 * blockSize)

    /// The most blocks of one request.
    public static let blockLimit = FormatLimit.operationBlocks

    init() {
        sums = .allocate(capacity: Self.blockLimit)
        places = .allocate(capacity: Self.blockLimit)
        earlierSums = .allocate(capacity: Self.blockLimit)
        earlierPlaces = .allocate(capacity: Self.blockLimit)
        wasBad = .allocate(capacity: Self.blockLimit)
        isBad = .allocate(capacity: Self.blockLimit)
        sums.initialize(repeating: 0, count: Self.blockLimit)
        places.initialize(repeating: .nowhere, count: Self.blockLimit)
        earlierSums.initialize(repeating: 0, count: Self.blockLimit)
        earlierPlaces.initialize(repeating: .nowhere, count: Self.blockLimit)
        wasBad.initialize(repeating: false, count: Self.blockLimit)
        isBad.initialize(repeating: false, count: Self.blockLimit)
    }

    deinit {
        sums.deallocate()
        places.deallocate()
        earlierSums.deallocate()
        earlierPlaces.deallocate()
        wasBad.deallocate()
        isBad.deallocate()
    }

    /// Describes the write that `Replica.write` is asked for: whole blocks, their bytes in up to three parts of whole
    /// blocks each.
    public func describeWrite(
        block: UInt64, count: Int, isDurable: Bool, _ first: UnsafeRawBufferPointer,
        _ second: UnsafeRawBufferPointer? = nil, _ third: UnsafeRawBufferPointer? = nil
    ) {
        operation.reset(.write, block: block, count: UInt64(count), isDurable: isDurable)
        operation.parts[0] = first
        operation.partCount = 1
        if let second {
            operation.parts[operation.partCount] = second
            operation.partCount += 1
        }
        if let third {
            operation.parts[operation.partCount] = third
            operation.partCount += 1
        }
    }

    /// Describes what `Replica.empty` is asked for.
    public func describeEmptying(_ range: BlockRange, isDiscard: Bool, isDurable: Bool) {
        operation.reset(isDiscard ? .discard : .zero, block: range.start, count: range.count, isDurable: isDurable)
    }

    /// Keeps this attempt's findings for comparison with the next one's.
    func rememberAttempt(_ count: Int) {
        earlierSums.update(from: sums, count: count)
        earlierPlaces.update(from: places, count: count)
        wasBad.update(from: isBad, count: count)
    }
}

/// Contexts that no thread uses at the moment.
final class ContextPool: Sendable {
    private let free = Guarded<[IOContext]>([])

    func take() -> IOContext { free.withLock { $0.popLast() } ?? IOContext() }

    func give(_ context: IOContext) {
        // The sources are let go, so that a deleted layer's files are closed.
        context.view = nil
        context.tierFiles = []
        free.withLock { $0.append(context) }
    }
}
