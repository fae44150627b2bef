using System.Diagnostics;
using System.Text.Json;
using HdrHistogram;

namespace ShardForge.Benchmarks.Peers.Engines;

/// <summary>One workload on one engine, in a process of its own: the child of <see cref="EngineComparison"/>.</summary>
internal static class EngineRun
{
    public const string Argument = "engine-run", ResultLine = "result ";
    private const int MixedInsertsPercent = 5, WarmUpOperations = 100_000;

    public static async Task<int> RunAsync(string json)
    {
        RunOrder order = JsonSerializer.Deserialize<RunOrder>(json)!;
        RunResult result;
        try
        {
            result = await RunAsync(order);
        }
        catch (Exception error)
        {
            result = new RunResult { Failure = Reason(error) };
        }

        Console.Out.WriteLine(ResultLine + JsonSerializer.Serialize(result with { Engine = order.Engine, Workload = order.Workload ?? "load" }));
        return 0;
    }

    private static string Reason(Exception error)
    {
        // The loader tries several names; the line that matters is the one that says what the library wants.
        if (error is DllNotFoundException or TypeInitializationException)
            return "its native library does not load: " + (error.ToString().Split('\n').FirstOrDefault(line => line.Contains("not found", StringComparison.Ordinal)) ?? error.Message.Split('\n')[0]);
        return $"{error.GetType().Name}: {error.Message}";
    }

    private static async Task<RunResult> RunAsync(RunOrder order)
    {
        Workload? workload = order.Workload is null ? null : Workload.Of(order.Workload);
        using PeerEngine engine = PeerEngine.Open(order.Engine, order.Directory);
        if (workload is null || order.LoadsFirst)
        {
            Load(engine, order);
            engine.Settle(flush: workload is null);
        }

        return workload is null ? new RunResult() : await MeasureAsync(engine, workload, order);
    }

    private static void Load(PeerEngine engine, RunOrder order)
    {
        KeySource keys = new(order.Shape, order.Keys, KeyChoice.Shuffled, 0);
        ValueSource values = new(0);
        using PeerSession session = engine.NewSession();
        Span<byte> key = stackalloc byte[KeySource.KeyBytes];
        for (int at = 0; at < order.Keys; at++)
        {
            keys.Write(keys.Shuffled(at), key);
            session.AddToBatch(key, values.Next());
            if (at % Workload.BatchOperations == Workload.BatchOperations - 1)
                session.WriteBatch();
        }

        session.WriteBatch();
    }

    private static async Task<RunResult> MeasureAsync(PeerEngine engine, Workload workload, RunOrder order)
    {
        int threads = workload.Threads, operations = OperationsOf(workload, order);
        Worker[] workers = new Worker[threads];
        for (int thread = 0; thread < threads; thread++)
            workers[thread] = new Worker(engine, workload, order, thread, operations / threads);

        if (workload.Loaded)
        {
            // Caches and compiled code as they are after a while; what is measured is the steady state.
            RunThreads(workers, worker => worker.WarmUp(workload.Kind == WorkKind.Scan ? 1 : workload.OnlyReads ? operations / threads : WarmUpOperations));
        }

        long allocated = GC.GetTotalAllocatedBytes(precise: true), written = engine.BytesWritten;
        int collections = GC.CollectionCount(2);
        long begun = Stopwatch.GetTimestamp();
        if (workload.Kind == WorkKind.PutFlushed && engine.WritesAsynchronously)
            await Task.WhenAll(workers.Select(worker => worker.RunFlushedAsync()));
        else
            RunThreads(workers, worker => worker.Run(worker.Recorder, worker.Operations));
        double seconds = Stopwatch.GetElapsedTime(begun).TotalSeconds;
        allocated = GC.GetTotalAllocatedBytes(precise: true) - allocated;
        collections = GC.CollectionCount(2) - collections;

        Worker[] readers = workload.Kind == WorkKind.ReadWhileWriting ? workers[..1] : workers;
        LongHistogram histogram = readers[0].Recorder.Histogram;
        foreach (Worker reader in readers.Skip(1))
            histogram.Add(reader.Recorder.Histogram);
        long done = workers.Sum(worker => worker.Recorder.Operations);
        RunResult result = new()
        {
            OperationsPerSecond = readers.Sum(worker => worker.Recorder.Operations) / seconds,
            P50 = histogram.GetValueAtPercentile(50),
            P99 = histogram.GetValueAtPercentile(99),
            P999 = histogram.GetValueAtPercentile(99.9),
            WriterOperationsPerSecond = readers.Length < workers.Length ? workers[^1].Recorder.Operations / seconds : 0,
            WriterP99 = readers.Length < workers.Length ? workers[^1].Recorder.Histogram.GetValueAtPercentile(99) : 0,
            AllocatedBytesPerOperation = (double)allocated / Math.Max(1, done),
            Gen2Collections = collections,
            PeakMemory = ProcessFigures.PeakMemory,
        };
        if (!workload.OnlyReads)
            engine.Settle(flush: true);
        long userBytes = workers.Sum(worker => worker.BytesPut);
        return result with
        {
            DiskBytes = ProcessFigures.DirectoryBytes(order.Directory),
            WriteAmplification = userBytes == 0 ? 0 : (double)(engine.BytesWritten - written) / userBytes,
            PeakMemory = ProcessFigures.PeakMemory,
        };
    }

    private static int OperationsOf(Workload workload, RunOrder order) => workload.Kind switch
    {
        WorkKind.Scan => Math.Clamp(3_000_000 / order.Keys, 1, 10),
        WorkKind.Seek => order.Operations / 10,
        WorkKind.ReadWhileWriting => int.MaxValue,
        WorkKind.Mixed when workload.Other == MixedKind.ScanOrInsert => order.Operations / 10,
        WorkKind.Put or WorkKind.PutBatch => workload.Loaded ? order.Operations : order.Keys,
        WorkKind.PutFlushed => order.Operations / 50,
        _ => order.Operations,
    };

    private static void RunThreads(Worker[] workers, Action<Worker> run)
    {
        if (workers.Length == 1)
        {
            run(workers[0]);
            return;
        }

        Exception? failure = null;
        Thread[] threads = new Thread[workers.Length];
        for (int at = 0; at < threads.Length; at++)
        {
            Worker worker = workers[at];
            threads[at] = new Thread(() =>
            {
                try
                {
                    run(worker);
                }
                catch (Exception error)
                {
                    failure = error;
                }
            });
        }

        foreach (Thread thread in threads)
            thread.Start();
        foreach (Thread thread in threads)
            thread.Join();
        if (failure is not null)
            throw failure;
    }

    /// <summary>One thread's part.</summary>
    private sealed class Worker(PeerEngine engine, Workload workload, RunOrder order, int thread, int operations)
    {
        private readonly KeySource _keys = new(order.Shape, order.Keys, workload.Choice, thread);
        private readonly ValueSource _values = new(thread + 1);
        private readonly PeerSession _session = engine.NewSession();
        private readonly byte[] _key = new byte[KeySource.KeyBytes], _value = new byte[ValueSource.ValueBytes];
        private readonly long _ticksMax = order.Seconds * Stopwatch.Frequency;
        private int _next = thread * operations, _inserted;

        public int Operations => operations;

        public LatencyRecorder Recorder { get; } = new();

        public long BytesPut { get; private set; }

        public void WarmUp(int count)
        {
            Run(new LatencyRecorder(), count);
            BytesPut = 0;
        }

        public void Run(LatencyRecorder recorder, int count)
        {
            recorder.Start();
            long end = recorder.Last + _ticksMax;
            for (int at = 0; at < count && recorder.Last < end; at++)
                Step(recorder);
        }

        public async Task RunFlushedAsync()
        {
            await Task.Yield();
            Recorder.Start();
            long end = Recorder.Last + _ticksMax;
            for (int at = 0; at < operations && Recorder.Last < end; at++)
            {
                NextKey();
                _values.Next().CopyTo(_value);
                await _session.PutFlushedAsync(_key, _value);
                BytesPut += _key.Length + _value.Length;
                Recorder.Record();
            }
        }

        private void Step(LatencyRecorder recorder)
        {
            switch (workload.Kind)
            {
                case WorkKind.Put:
                    NextKey();
                    Put();
                    recorder.Record();
                    break;
                case WorkKind.PutBatch:
                    NextKey();
                    _session.AddToBatch(_key, _values.Next());
                    BytesPut += _key.Length + ValueSource.ValueBytes;
                    if (_next % Workload.BatchOperations == 0)
                    {
                        _session.WriteBatch();
                        recorder.Record(Workload.BatchOperations);
                    }

                    break;
                case WorkKind.PutFlushed:
                    NextKey();
                    _values.Next().CopyTo(_value);
                    _session.PutFlushedAsync(_key, _value).AsTask().GetAwaiter().GetResult();
                    BytesPut += _key.Length + _value.Length;
                    recorder.Record();
                    break;
                case WorkKind.Get:
                    NextKey();
                    Get(isThere: workload.Choice != KeyChoice.Missing);
                    recorder.Record();
                    break;
                case WorkKind.Seek:
                    NextKey();
                    _session.Scan(_key, Workload.SeekEntries);
                    recorder.Record();
                    break;
                case WorkKind.Scan:
                    long count = _session.ScanAll(recorder);
                    if (count != order.Keys)
                        throw new InvalidOperationException($"The scan met {count:N0} entries; there are {order.Keys:N0}.");
                    break;
                case WorkKind.ReadWhileWriting:
                    NextKey();
                    if (thread == 0)
                        Get(isThere: true);
                    else
                        Put();
                    recorder.Record();
                    break;
                default:
                    StepMixed();
                    recorder.Record();
                    break;
            }
        }

        private void StepMixed()
        {
            NextKey();
            int dice = _keys.Next(100);
            if (dice < workload.ReadPercent)
            {
                Get(isThere: true);
            }
            else if (workload.Other == MixedKind.Update)
            {
                Put();
            }
            else if (workload.Other == MixedKind.ReadModifyWrite)
            {
                Get(isThere: true);
                Put();
            }
            else if (dice < MixedInsertsPercent)
            {
                _keys.Write((long)order.Keys + _inserted++, _key);
                Put();
            }
            else
            {
                _session.Scan(_key, 1 + _keys.Next(Workload.ScanEntriesMax));
            }
        }

        private void Put()
        {
            _session.Put(_key, _values.Next());
            BytesPut += _key.Length + ValueSource.ValueBytes;
        }

        private void Get(bool isThere)
        {
            int bytes = _session.Get(_key);
            if (bytes != (isThere ? ValueSource.ValueBytes : -1))
                throw new InvalidOperationException($"Get of {Convert.ToHexStringLower(_key)} gave {bytes} bytes.");
        }

        private void NextKey()
        {
            int number = workload.Choice switch
            {
                KeyChoice.Sequential => _next++,
                KeyChoice.Shuffled => _keys.Shuffled(_next++ % order.Keys),
                KeyChoice.Hot => _keys.NextHot(),
                KeyChoice.Zipfian => _keys.NextZipfian(),
                _ => _keys.NextKey(),
            };
            _keys.Write(number, _key);
            if (workload.Choice == KeyChoice.Missing)
                _key[^1] = (byte)'.';
        }
    }
}
