using System.Collections.Concurrent;
using ShardForge.Common;

namespace ShardForge.Consensus;

/// <summary>The thread that reads and writes snapshots' files: they block, so they are not the pool's. One for all groups of a node.</summary>
/// <remarks>Work runs in the order of its calls, one at a time; so what only work touches needs no lock.</remarks>
internal sealed class SnapshotFiles(IFileSystem files) : IDisposable
{
    private readonly BlockingCollection<Action> _work = new(boundedCapacity: 1024);
    private readonly Lock _gate = new();
    private Thread? _thread;

    public IFileSystem Files { get; } = files;

    public Task<T> RunAsync<T>(Func<IFileSystem, T> work)
    {
        TaskCompletionSource<T> done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        StartThread();
        bool isQueued;
        try
        {
            isQueued = _work.TryAdd(() =>
            {
                try
                {
                    done.SetResult(work(Files));
                }
                catch (Exception error)
                {
                    done.SetException(error);
                }
            });
        }
        catch (InvalidOperationException closed)
        {
            throw new ObjectDisposedException("The thread for snapshots has ended.", closed);
        }

        return isQueued ? done.Task : throw new OverloadedException($"{_work.Count} pieces of snapshots wait for the disk; more are not taken.");
    }

    public Task RunAsync(Action<IFileSystem> work) => RunAsync(files =>
    {
        work(files);
        return 0;
    });

    /// <summary>Ends the thread after the work that is queued.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            if (_work.IsAddingCompleted)
                return;
            _work.CompleteAdding();
            _thread ??= Thread.CurrentThread;
        }

        if (_thread != Thread.CurrentThread)
            _thread.Join();
        _work.Dispose();
    }

    /// <summary>All files under a directory by their path from it, with '/', in order; and their lengths.</summary>
    public static IReadOnlyList<(string Name, long Bytes)> List(IFileSystem files, string directory)
    {
        List<(string, long)> found = [];
        Add(directory, "");
        found.Sort(static (left, right) => string.CompareOrdinal(left.Item1, right.Item1));
        return found;

        void Add(string path, string prefix)
        {
            foreach (string file in files.ListFiles(path))
            {
                using IFile open = files.Open(file, FileOpenMode.Read);
                found.Add((prefix + Path.GetFileName(file), open.Length));
            }

            foreach (string inner in files.ListDirectories(path))
                Add(inner, prefix + Path.GetFileName(inner) + "/");
        }
    }

    private void StartThread()
    {
        if (_thread is not null)
            return;
        lock (_gate)
        {
            if (_thread is not null)
                return;
            _thread = new Thread(Run) { IsBackground = true, Name = "shardforge-snapshot" };
            _thread.Start();
        }
    }

    private void Run()
    {
        foreach (Action work in _work.GetConsumingEnumerable())
            work();
    }
}
