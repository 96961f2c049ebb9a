% Times the scoring of frames by the steps of the published protocol, written anew as MATLAB code of the field works:
% whole matrices, a pass over the map for every threshold, 100 draws of negatives. Run by benchmarks/metrics.py.
%
%   octave-cli benchmarks/metrics.m FOLDER ROUNDS
%
% Reads <i>_prediction.jpg, <i>_density.jpg and <i>_fixations.mat; prints per frame, after one round to warm up, the
% seconds of the processor without reading of fixations, and the five scores.
1;

function score = linear_correlation(a, b)
  a = im2double(imresize(a, size(b)));
  a = (a - mean(a(:))) / std(a(:));
  b = (b - mean(b(:))) / std(b(:));
  score = corr2(a, b);
end

function a = as_histogram(a)
  a = (a - min(a(:))) / (max(a(:)) - min(a(:)));
  a = a / sum(a(:));
end

function score = similarity(a, b)
  a = im2double(imresize(a, size(b)));
  score = sum(sum(min(as_histogram(a), as_histogram(b))));
end

function score = scanpath_saliency(map, fixations)
  map = im2double(imresize(map, size(fixations)));
  map = (map - mean(map(:))) / std(map(:));
  score = mean(map(fixations > 0));
end

function score = area_judd(map, fixations)
  map = map + rand(size(map)) / 1e7;
  map = (map - min(map(:))) / (max(map(:)) - min(map(:)));
  values = map(:);
  fixated = sort(values(fixations(:) > 0), 'descend');
  n = numel(fixated);
  tp = zeros(n + 2, 1);
  fp = zeros(n + 2, 1);
  tp(end) = fp(end) = 1;
  for i = 1:n
    above = sum(values >= fixated(i));
    tp(i + 1) = i / n;
    fp(i + 1) = (above - i) / (numel(values) - n);
  end
  score = trapz(fp, tp);
end

function score = area_shuffled(map, fixations, others)
  map = (map - min(map(:))) / (max(map(:)) - min(map(:)));
  fixated = map(fixations > 0);
  candidates = find(others > 0);
  n = min(numel(fixated), numel(candidates));
  areas = zeros(100, 1);
  for k = 1:100
    drawn = map(candidates(randperm(numel(candidates))(1:n)));
    thresholds = fliplr(0:0.1:max([fixated; drawn]));
    tp = zeros(numel(thresholds) + 2, 1);
    fp = zeros(numel(thresholds) + 2, 1);
    tp(end) = fp(end) = 1;
    for i = 1:numel(thresholds)
      tp(i + 1) = sum(fixated >= thresholds(i)) / numel(fixated);
      fp(i + 1) = sum(drawn >= thresholds(i)) / n;
    end
    areas(k) = trapz(fp, tp);
  end
  score = mean(areas);
end

pkg load image
folder = argv(){1};
rounds = str2double(argv(){2});
num = numel(glob(fullfile(folder, '*_prediction.jpg')));
fixations = cell(num, 1);
union = 0;
for i = 1:num
  fixations{i} = double(load(fullfile(folder, sprintf('%d_fixations.mat', i - 1))).eyeMap);
  union = union | fixations{i} > 0;
end
gaussian = fspecial('gaussian', 13, 2);
for round = 0:rounds
  for i = 1:num
    begin = cputime;
    prediction = double(imread(fullfile(folder, sprintf('%d_prediction.jpg', i - 1))));
    density = double(imread(fullfile(folder, sprintf('%d_density.jpg', i - 1))));
    prediction = (prediction - min(prediction(:))) / (max(prediction(:)) - min(prediction(:)));
    prediction = imfilter(prediction, gaussian, 'symmetric');
    map = imresize(prediction, size(density), 'bicubic');
    others = union & fixations{i} ~= 1;
    scores = [linear_correlation(map, density), similarity(map, density), ...
              scanpath_saliency(map, fixations{i}), area_judd(map, fixations{i}), ...
              area_shuffled(map, fixations{i}, others)];
    seconds = cputime - begin;
    if round > 0
      printf('%.6f %.9f %.9f %.9f %.9f %.9f\n', seconds, scores);
    end
  end
end
