using System.Buffers.Binary;
using NUnit.Framework;
using ShardForge.Common;
using ShardForge.Storage;
using ShardForge.Storage.Lsm;
using ShardForge.Storage.Lsm.Wal;
using ShardForge.Testing;

namespace ShardForge.Tests.Storage.Lsm;

/// <summary>The log on its own: files that are mapped and used again, under a file system that loses what was not flushed.</summary>
internal sealed class WriteAheadLogTests
{
    private const string Root = "/log";

    [Test]
    public void Records_of_a_files_former_life_do_not_come_back([Values] bool powerCut, [Values] bool flushed)
    {
        for (int seed = 0; seed < 50; seed++)
        {
            using Run run = new();
            WriteAheadLog log = run.Open();

            // Files are of one page: 30 records fill several, and those are used again.
            run.Append(30, log);
            run.Flush(log);
            run.RollAndRelease(log);
            for (int round = 0; round < 3; round++)
            {
                run.Append(30, log);
                run.RollAndRelease(log);
            }

            run.Append(2, log);
            if (flushed)
                run.Flush(log);
            run.End(log, powerCut ? seed : null);
            run.CheckRecovers($"seed={seed}", all: !powerCut || flushed);
        }
    }

    [Test]
    public void At_every_operation_the_power_may_go()
    {
        long operations = Script(failAt: 0, seed: 0);
        Assert.That(operations, Is.GreaterThan(20));
        for (long at = 1; at <= operations; at++)
        {
            for (int seed = 0; seed < 3; seed++)
                Script(at, seed);
        }

        static long Script(long failAt, int seed)
        {
            using Run run = new();
            if (failAt > 0)
                run.Files.FailAt(failAt, FileFault.PowerOff);
            WriteAheadLog? log = null;
            try
            {
                log = run.Open();
                for (int round = 0; round < 5; round++)
                {
                    run.Append(12, log);
                    if (round % 2 == 0)
                        run.Flush(log);
                    run.Append(3, log);
                    if (round is 1 or 3)
                        run.RollAndRelease(log);
                }

                log.Dispose();
                log = null;
            }
            catch (Exception error) when (error is IOException or OutcomeUnknownException)
            {
                Assert.That(failAt, Is.Not.Zero, error.ToString());
            }

            long operations = run.Files.OperationCount;
            run.End(log, seed);
            run.CheckRecovers($"at={failAt} seed={seed}", all: false);
            return operations;
        }
    }

    [Test]
    public void A_disk_without_room_refuses_the_append_and_the_log_goes_on_when_there_is_room()
    {
        using Run run = new();
        WriteAheadLog log = run.Open();
        run.Append(5, log);
        run.Files.CapacityBytes = 8192;
        IOException? refused = Assert.Throws<IOException>(() => run.Append(500, log));
        Assert.That(refused!.Message, Does.Contain("No space"));
        run.Files.CapacityBytes = long.MaxValue;
        run.Append(500, log);
        run.End(log, powerCutSeed: null);
        run.CheckRecovers("after the disk was full", all: true);
    }

    [Test]
    public void A_failed_flush_is_final_and_a_later_one_is_not_called_durable()
    {
        using Run run = new();
        using WriteAheadLog log = run.Open();
        run.Append(3, log);
        run.Files.FailWhen(static operation => operation.Kind == FileOperationKind.Flush);
        Assert.Throws<OutcomeUnknownException>(() => run.Flush(log));
        Assert.That(run.Failure, Is.Not.Null);
        run.Append(1, log);
        Assert.Throws<OutcomeUnknownException>(() => run.Flush(log));
        Assert.That(log.IsDurable, Is.False);
    }

    [Test]
    public void A_lull_that_begins_while_a_file_is_prepared_makes_the_file_no_shorter()
    {
        InMemoryFileSystem files = new();
        files.CreateDirectory(Root);
        LogFilePool? pool = null;
        using ManualResetEventSlim asked = new();
        pool = new LogFilePool(files, Root, () =>
        {
            pool!.Shrink();
            asked.Set();
            return 1;
        }, "test", memtableBytes: 1024 * 1024);
        pool.WantFile();
        Assert.That(asked.Wait(TimeSpan.FromSeconds(20)), "nobody prepared a file");

        // The thread that prepares would have ended the process here.
        pool.StopThread();
        LogFile file = pool.Take(2, 100);
        Assert.That(file.Capacity, Is.GreaterThanOrEqualTo(100));
        file.Dispose();
        pool.Dispose();
    }

    [Test]
    public void A_batch_longer_than_any_file_gets_one_of_its_own()
    {
        using Run run = new();
        WriteAheadLog log = run.Open();
        run.Append(1, log, payloadBytes: 300_000);
        run.Append(40, log);
        run.Append(1, log, payloadBytes: 5000);
        run.Flush(log);
        run.End(log, powerCutSeed: 3);
        run.CheckRecovers("long batches", all: true);
    }

    /// <summary>A log, what was appended to it, and what must come back.</summary>
    private sealed class Run : IDisposable
    {
        private readonly object _latch = new();
        private readonly List<int> _payloadBytes = [];
        private ulong _number = 1, _firstLog = 1;
        private int _flushed, _released;

        public Run()
        {
            Files.CreateDirectory(Root);
            Files.FlushDirectory("/");
        }

        public FaultyFileSystem Files { get; } = new();

        public Exception? Failure { get; private set; }

        public WriteAheadLog Open()
        {
            LogFilePool pool = new(Files, Root, NewNumber, "test", memtableBytes: 4096);
            return new WriteAheadLog(pool, NewNumber(), NewNumber, nextSequence: 1, "test", _latch, new LsmCounters(), error => Failure = error);
        }

        public void Append(int count, WriteAheadLog log, int payloadBytes = 120)
        {
            for (int number = 0; number < count; number++)
            {
                lock (_latch)
                {
                    int bytes = payloadBytes + (_payloadBytes.Count % 50);
                    log.Append((ulong)_payloadBytes.Count + 1, 1, Payload(_payloadBytes.Count, bytes), _payloadBytes.Count % 3 == 0 ? StorageDurability.Flushed : StorageDurability.Buffered);
                    _payloadBytes.Add(bytes);
                }
            }
        }

        public void Flush(WriteAheadLog log)
        {
            int appended = _payloadBytes.Count;
            log.FlushedAsync().GetAwaiter().GetResult();
            _flushed = appended;
        }

        /// <summary>As the flush of a memtable does: all before is in tables.</summary>
        public void RollAndRelease(WriteAheadLog log)
        {
            lock (_latch)
            {
                ulong number = NewNumber();
                log.Roll(number, isBusy: true);
                _firstLog = number;
                _released = _flushed = _payloadBytes.Count;
            }

            log.Release(_firstLog);
        }

        /// <summary>The process ends, and with it its threads; or the power goes.</summary>
        public void End(WriteAheadLog? log, int? powerCutSeed)
        {
            // Nothing of the dispose reaches a disk without power.
            Files.PowerOff();
            log?.Dispose();
            if (powerCutSeed is { } seed)
                Files.PowerOn(seed);
            else
                Files.EndProcess();
        }

        public void CheckRecovers(string where, bool all)
        {
            ulong[] numbers = [.. Files.ListFiles(Root).Select(static path => ulong.Parse(Path.GetFileNameWithoutExtension(path), System.Globalization.CultureInfo.InvariantCulture)).Where(number => number >= _firstLog).Order()];
            int next = _released;
            new LogRecovery(Files, Root).Run(numbers, (ulong)_released + 1, cleanLog: null, (sequence, payload) =>
            {
                Assert.That(sequence, Is.EqualTo((ulong)next + 1), where);
                Assert.That(payload.SequenceEqual(Payload(next, _payloadBytes[next])), $"{where}: batch {next}");
                next++;
                return 1;
            });
            Assert.That(next, Is.GreaterThanOrEqualTo(all ? _payloadBytes.Count : _flushed), where);
        }

        public void Dispose() => Files.PowerOff();

        private static byte[] Payload(int number, int bytes)
        {
            byte[] payload = new byte[bytes];
            payload.AsSpan().Fill((byte)number);
            BinaryPrimitives.WriteInt32LittleEndian(payload, number);
            return payload;
        }

        private ulong NewNumber() => Interlocked.Increment(ref _number);
    }
}
