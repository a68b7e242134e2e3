// A loop over tasks on std::thread. Tasks are handed out one by one, so what a task computes must
// not depend on who runs it: every kernel here gives the same bits for any number of threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace roboao {

// Calls make_worker() once a thread; the callable it returns is called with task numbers. Scratch
// memory belongs into the worker. The first exception of any thread is thrown in the caller.
template <typename MakeWorker>
void parallel_for(std::size_t tasks, int threads, MakeWorker make_worker) {
    const std::size_t crew = std::min<std::size_t>(threads > 1 ? threads : 1, tasks);
    if (crew <= 1) {
        if (tasks == 0) return;
        auto work = make_worker();
        for (std::size_t task = 0; task < tasks; ++task) work(task);
        return;
    }
    std::atomic<std::size_t> next{0};
    std::exception_ptr failure;
    std::mutex failure_lock;
    auto run = [&] {
        try {
            auto work = make_worker();
            for (std::size_t task; (task = next.fetch_add(1)) < tasks;) work(task);
        } catch (...) {
            std::lock_guard<std::mutex> guard(failure_lock);
            if (!failure) failure = std::current_exception();
            next = tasks;
        }
    };
    std::vector<std::thread> others;
    others.reserve(crew - 1);
    try {
        for (std::size_t i = 1; i < crew; ++i) others.emplace_back(run);
    } catch (const std::exception &) {
        // No more threads to be had: those that started, and this one, do all the work.
    }
    run();
    for (auto &other : others) other.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace roboao
