using System.Runtime.ExceptionServices;

namespace ShardForge.Tests.Replication;

/// <summary>Runs a scripted test on a thread of its own, so that what follows an await runs on the thread that completes it: the test framework's context would send it to the pool, and so would a stack that is nearly used up.</summary>
internal static class InlineContinuations
{
    private const int StackBytes = 16 * 1024 * 1024;

    public static T Run<T>(Func<Task<T>> test)
    {
        T result = default!;
        ExceptionDispatchInfo? error = null;
        Thread thread = new(() =>
        {
            try
            {
                result = test().GetAwaiter().GetResult();
            }
            catch (Exception thrown)
            {
                error = ExceptionDispatchInfo.Capture(thrown);
            }
        }, StackBytes)
        { Name = "scripted test", IsBackground = true };
        thread.Start();
        thread.Join();
        error?.Throw();
        return result;
    }
}
